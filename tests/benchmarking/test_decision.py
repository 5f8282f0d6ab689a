import argparse
import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

import decision as study
import decision_page
import decision_rows
from bedside.models import count_parameters, create
from bedside.spec import read_recipe, to_mapping
from bedside.spec.card import Interval
from bedside.training.checkpoint import read_json
from bedside.training.split import split_cases
from cells import time_in_turns, write_json
from decision_page import over_folds, over_patients, pick, score_images
from decision_rows import CLEAN, PLANTED, ROWS, Cell
from paired import judge, subtract
from runs_for_tests import make_camus

PATIENTS = [f"patient{number:04d}" for number in range(1, 61)]


def make_cell(row, fold, values, *, share=1.0, times=1, pretrained=False):
    """A result in which each image has one Dice, whatever was planted."""
    conditions = [CLEAN, *PLANTED]
    cases = {case: [dice] * len(conditions) for case, dice in values.items()}
    content = {"patients": {"trained": 40, "held_out": len(values)}, "steps": 888}
    cell = Cell(row, share, fold, times, pretrained)
    return {cell: content | {"conditions": conditions, "cases": cases}}


def make_values(fold, means, *, spread=0.0):
    return {
        f"patient{100 * fold + number:04d}_4CH_{moment}": mean + spread * (-1) ** number
        for number, mean in enumerate(means)
        for moment in ("ED", "ES")
    }


def test_every_row_is_another_network_and_windows_are_the_recipes():
    base = read_recipe(decision_rows.RECIPE).deployment.model
    networks = {name: row.change(base) for name, row in ROWS.items()}
    assert len({repr(network) for network in networks.values()}) == len(networks)
    assert networks["window"] == base
    assert {level.block for level in networks["conv"].levels} == {"conv"}
    assert [level.block for level in networks["routed"].levels] == [
        "conv",
        "routed",
        "conv",
        "conv",
    ]
    for network in networks.values():
        assert [a.channels for a in network.levels] == [b.channels for b in base.levels]
        with torch.device("meta"):
            assert count_parameters(create(network)) < 700_000


def test_pairs_with_all_labels_come_first_and_other_rows_last():
    cells = decision_rows.list_cells()
    assert len(set(cells)) == len(cells)
    assert [(cell.row, cell.fold) for cell in cells[:6]] == [
        (row, fold) for fold in range(3) for row in ("conv", "window")
    ]
    assert {cell.share for cell in cells[:6]} == {1.0}
    assert [cell.share for cell in cells[6:20]] == [0.1] * 6 + [1.0] * 2 + [0.05] * 6
    assert [cell.times for cell in cells[12:14]] == [decision_rows.LONGER] * 2
    assert [(cell.share, cell.fold) for cell in cells if cell.pretrained] == [
        (share, fold) for share in (0.1, 0.05) for fold in range(3)
    ]
    assert {cell.row for cell in cells[26:]} == ROWS.keys() - {"conv", "window"}


def test_each_patient_is_held_out_by_one_fold_and_few_labels_are_part_of_more():
    def split(share, fold):
        return split_cases(PATIENTS, decision_rows.make_recipe(Cell("conv", share, fold)).data)

    held_out = [patient for fold in range(3) for patient in split(1.0, fold)["val"]]
    assert sorted(held_out) == PATIENTS
    for fold in range(3):
        few, more, most = (set(split(share, fold)["train"]) for share in (0.05, 0.1, 1.0))
        assert few < more < most
        assert not most & set(split(1.0, fold)["val"])
        assert split(0.1, fold)["val"] == split(1.0, fold)["val"]
        assert split(1.0, fold)["test"] == ()


def test_rows_differ_in_network_alone_and_a_fold_has_its_own_seed():
    one, other = (decision_rows.make_recipe(Cell(row, 0.1, 2)) for row in ("conv", "window"))
    assert one.deployment != other.deployment
    assert dataclasses.replace(one, deployment=other.deployment) == other
    assert one.training.seed == 2
    assert one.augment.shadow > 0
    assert one.distill is None


def test_few_patients_get_more_epochs_and_about_as_many_steps():
    recipe = decision_rows.make_recipe(Cell("conv", 0.05, 0))
    few = study.set_schedule(recipe, 15, steps=400).training
    all_of_them = study.set_schedule(recipe, 299, steps=900).training
    assert few.epochs * (30 // 8) == pytest.approx(400, abs=2)
    assert all_of_them.epochs == all_of_them.validate_every == 12
    assert study.set_schedule(recipe, 1, steps=2).training.epochs == 2


def test_images_are_paired_within_their_fold():
    cells = make_cell("conv", 0, {"patient0001_4CH_ED": 0.5, "patient0002_4CH_ED": 0.5})
    cells |= make_cell("window", 0, {"patient0001_4CH_ED": 0.75})
    cells |= make_cell("window", 1, {"patient0002_4CH_ED": 1.0})
    cells |= make_cell("window", 0, {"patient0002_4CH_ED": 0.9}, share=0.1)
    cells |= make_cell("window", 0, {"patient0002_4CH_ED": 0.9}, times=3)
    one, other = (score_images(pick(cells, row, share=1.0), PLANTED) for row in ("window", "conv"))
    assert subtract(one, other) == {(0, "patient0001_4CH_ED"): pytest.approx(0.25)}


def test_an_interval_over_trainings_too_is_wide_where_trainings_disagree():
    alike, apart = {}, {}
    for fold, shift in enumerate((-0.02, 0.0, 0.02)):
        values = make_values(fold, [0.01] * 40, spread=0.005)
        alike |= {(fold, case): value for case, value in values.items()}
        apart |= {(fold, case): value + shift for case, value in values.items()}
    narrow, wide, patients = over_folds(alike), over_folds(apart), over_patients(alike)
    assert narrow.mean == wide.mean == pytest.approx(0.01)
    # 120 patients, both images alike: a standard error of 0.005 / sqrt(120).
    assert narrow.high - narrow.low == pytest.approx(2 * 1.96 * 0.005 / 120**0.5, rel=0.15)
    assert patients.high - patients.low == pytest.approx(narrow.high - narrow.low, rel=0.1)
    # From about the lowest fold to about the highest.
    assert wide.low == pytest.approx(-0.01, abs=0.004)
    assert wide.high == pytest.approx(0.03, abs=0.004)
    assert wide == over_folds(apart)


def test_one_fold_or_few_patients_decide_nothing():
    one_fold = {(0, case): 0.5 for case in make_values(0, [0.5] * 40)}
    few = {(fold, f"patient000{fold}_4CH_ED"): 0.5 for fold in range(3)}
    for values in (one_fold, few):
        interval = over_folds(values)
        assert (interval.mean, interval.low) == (0.5, None)
        assert judge(interval, margin=0.002) == "not decided"


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (0.003, 0.009, "better by more than the margin"),
        (-0.009, -0.003, "worse by more than the margin"),
        (-0.002, 0.002, "equal within the margin"),
        (0.0005, 0.0015, "equal within the margin"),
        (0.0005, 0.004, "better, perhaps by less than the margin"),
        (-0.004, -0.0005, "worse, perhaps by less than the margin"),
        (-0.004, 0.001, "not better by the margin"),
        (-0.001, 0.004, "not worse by the margin"),
        (-0.004, 0.004, "not decided"),
    ],
)
def test_a_verdict_is_of_the_interval_and_the_margin(low, high, verdict):
    assert judge(Interval((low + high) / 2, low, high), margin=0.002) == verdict


def test_the_page_says_what_is_not_trained_and_what_is_decided(tmp_path):
    cells = {}
    for fold in range(3):
        cells |= make_cell("conv", fold, make_values(fold, [0.5] * 10))
        cells |= make_cell("window", fold, make_values(fold, [0.75] * 10))
    cells |= make_cell("pooled", 0, make_values(0, [0.25] * 10))
    for cell, content in cells.items():
        write_json(tmp_path / f"{cell.name}.json", content)
    assert decision_page.read_cells(tmp_path) == cells
    page = decision_page.format_page(cells, None)
    clean = page.partition("images as they are\n")[2].partition("##")[0].splitlines()
    lines = {line.split("|")[1].strip(): line for line in clean if "|" in line}
    assert "+0.2500 (+0.2500 to +0.2500)" in lines["windows with exchange"]
    assert "better by more than the margin" in lines["windows with exchange"]
    assert "not decided" in lines["pooled keys"]
    assert "not trained" in lines["dense at strides 16 and 32"]
    assert "34 of 41 cells are not trained" in page
    assert "30 patients" in page


def test_a_pretrained_row_is_compared_with_the_same_network_without():
    cells = {}
    for fold in range(3):
        cells |= make_cell("conv", fold, make_values(fold, [0.5] * 10), share=0.1)
        taught = make_values(fold, [0.625] * 10)
        cells |= make_cell("conv", fold, taught, share=0.1, pretrained=True)
    few = decision_page.format_page(cells, None).partition("## Few labels\n")[2]
    line = next(line for line in few.splitlines() if "convolutions, pretrained" in line)
    assert "+0.1250 (+0.1250 to +0.1250)" in line
    assert "better by more than the margin" in line


def test_a_pretrained_cell_starts_from_all_training_images_of_its_fold(tmp_path, monkeypatch):
    data = make_camus(tmp_path / "camus", patients=6)
    monkeypatch.setattr(study, "PRETRAIN_EPOCHS", 1)
    arguments = argparse.Namespace(data=data, runs=tmp_path / "runs", cache=None)
    recipe = study.start_cell(Cell("conv", 0.05, 1, pretrained=True), arguments)
    record = read_json(Path(recipe.training.start) / "run.json")
    assert record["unlabelled"]["images"] == 8
    plain = read_recipe(decision_rows.RECIPE).augment
    assert record["recipe"]["augment"] == to_mapping(plain)
    other = study.start_cell(Cell("conv", 0.1, 1, pretrained=True), arguments)
    assert other.training.start == recipe.training.start
    assert not study.start_cell(Cell("conv", 0.1, 1), arguments).training.start


def test_a_cell_is_trained_scored_and_kept_once(tmp_path, monkeypatch):
    data = make_camus(tmp_path / "camus", patients=6)
    monkeypatch.setitem(decision_rows.STEPS, 1.0, 1)
    cell = Cell("conv", 1.0, 1)
    arguments = argparse.Namespace(data=data, runs=tmp_path / "runs", cache=None)
    study.train_cell(cell, tmp_path, arguments)
    path = tmp_path / f"{cell.name}.json"
    kept = read_json(path)
    assert kept["patients"] == {"trained": 4, "held_out": 2}
    assert kept["steps"] == 1
    assert len(kept["cases"]) == 4
    for scores in kept["cases"].values():
        assert len(scores) == len(kept["conditions"]) == 1 + len(PLANTED)
        assert all(0 <= dice <= 1 for dice in scores)
    before = path.stat().st_mtime_ns
    study.train_cell(cell, tmp_path, arguments)
    assert path.stat().st_mtime_ns == before


def test_calls_are_timed_in_turns():
    order = []
    calls = {name: lambda name=name: order.append(name) for name in "ab"}
    spent = time_in_turns(calls, rounds=3)
    assert order == ["a", "b"] * 3
    assert {name: len(times) for name, times in spent.items()} == {"a": 3, "b": 3}
    assert np.all(np.array(list(spent.values())) >= 0)
