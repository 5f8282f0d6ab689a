import dataclasses
import re

import pytest
import torch

import cross_validation as study
from bedside.models import count_parameters, create
from bedside.spec import read_recipe
from cells import write_json


@pytest.fixture(scope="module")
def base():
    return read_recipe(study.SLICES)


def make_cell(row, fold, cases, *, seed=0, epochs=3):
    return {"row": row, "fold": fold, "seed": seed, "epochs": epochs, "cases": cases}


def test_every_row_has_another_network_of_at_most_a_million_weights(base):
    networks = {
        name: row.change(read_recipe(row.recipe).deployment.model)
        for name, row in study.ROWS.items()
        if not row.start and not row.peer
    }
    assert len({repr(network) for network in networks.values()}) == len(networks)
    assert networks["window"] == base.deployment.model
    for network in networks.values():
        with torch.device("meta"):
            assert count_parameters(create(network)) <= 1_000_000


def test_pairs_are_complete_before_the_next_fold_begins():
    cells = study.list_cells(("window", "conv"), (0, 1), (0, 1))
    assert [(cell.row, cell.fold, cell.seed) for cell in cells[:4]] == [
        ("window", 0, 0), ("conv", 0, 0), ("window", 1, 0), ("conv", 1, 0),
    ]  # fmt: skip
    assert {cell.seed for cell in cells[4:]} == {1}


def test_a_cell_differs_from_the_recipe_in_network_fold_seed_and_schedule_alone(base):
    recipe = study.make_recipe(study.Cell("conv", 3, 2), epochs=4)
    assert recipe.data.fold == 3
    assert (recipe.training.seed, recipe.training.epochs) == (2, 4)
    assert dataclasses.replace(recipe.data, fold=0) == base.data
    assert recipe.augment == base.augment
    assert {level.block for level in recipe.deployment.model.levels} == {"conv"}


def test_scans_in_three_axes_have_their_own_recipe_and_schedule():
    recipe = study.make_recipe(study.Cell("scans", 1, 0))
    own = read_recipe(study.SCANS)
    assert recipe.deployment == own.deployment
    assert recipe.training.epochs == own.training.epochs
    assert recipe.data.fold == 1


def test_a_row_that_is_trained_further_has_the_network_of_its_start():
    row = study.ROWS["scans-2"]
    before = study.make_recipe(study.Cell(row.start, 1, 0))
    after = study.make_recipe(study.Cell("scans-2", 1, 0))
    assert after.deployment == before.deployment
    assert after.data == before.data
    assert after.training.renorm
    assert not before.training.renorm
    assert after.training.patch_px > before.training.patch_px


def test_scans_are_paired_by_name_and_seed():
    ours = [make_cell("window", 0, {"a": {"x": 0.8, "y": 0.6}, "b": {"x": 0.5, "y": None}})]
    theirs = [
        make_cell("conv", 0, {"a": {"x": 0.7, "y": 0.5}}),
        make_cell("conv", 0, {"b": {"x": 0.1, "y": 0.1}}, seed=1),
    ]
    difference, scans = study.compare(ours, theirs)
    assert difference.mean == pytest.approx(0.1)
    assert difference.low is None
    assert scans == 1
    assert study.score_cases(ours) == {("a", 0): pytest.approx(0.7), ("b", 0): 0.5}


def test_the_page_says_what_is_not_trained_and_leaves_shorter_schedules_out(base, tmp_path):
    dice = {label.name: 0.5 for label in base.deployment.labels}
    for cell in (
        make_cell("window", 0, {"a": dice}),
        make_cell("conv", 0, {"a": dict.fromkeys(dice, 0.25)}),
        make_cell("conv", 2, {study.CHOSEN_ON[0]: dice}),
        make_cell("conv", 1, {"b": dice}, epochs=1),
        make_cell("scans", 0, {"a": dict.fromkeys(dice, 0.75)}, epochs=1),
    ):
        write_json(tmp_path / f"{cell['row']}.fold-{cell['fold']}.seed-0.json", cell)
    page = study.format_page(base, study.read_cells(tmp_path), None)
    assert "too few scans to decide anything" in page
    rows = {line.split("|")[1].strip(): line for line in page.splitlines() if "|" in line}
    assert "0.500" in rows["windows with exchange"]
    assert "+0.2500" in page
    assert "not trained" in rows["pooled keys"]
    # A row has one schedule, and not that of another one.
    assert re.search(r"\| convolutions +\| 3 ", page)
    assert "0.375" in rows["convolutions"]
    assert "Means without them: windows with exchange 0.5000, convolutions 0.2500" in page
    assert "0.750" in rows["convolutions in three axes"]


def test_the_page_says_what_training_the_other_classics_would_take(base, tmp_path):
    dice = {label.name: 0.5 for label in base.deployment.labels}
    write_json(tmp_path / "unet.fold-0.seed-0.json", make_cell("unet", 0, {"a": dice}))
    networks = [
        {"name": "unet", "title": "U-Net", "minutes": 6.4},
        {"name": "transunet", "title": "TransUNet", "minutes": 264.4},
    ]
    training = {"images": 1347, "epochs": 12, "networks": networks}
    page = study.format_page(base, study.read_cells(tmp_path), None, training)
    assert "12 epochs of a fold would take" in page
    assert "training step: TransUNet (264)." in page
    assert "| U-Net, MONAI" in page
