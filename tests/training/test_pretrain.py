"""Pretraining on images without labels."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from bedside.build import open_finished
from bedside.datasets import list_recipe_cases
from bedside.errors import FormatError, SpecError, SplitError
from bedside.spec import DistillSpec
from bedside.training import pretrain as module
from bedside.training.painting import PaintBlanks, draw_blanks
from bedside.training.pretrain import find_further, pretrain
from bedside.training.run import train
from makers import make_fan, write_nifti
from runs_for_tests import SQUARE_MM, StoppedError, make_camus, stop_after_first

pytest_plugins = ["training_fixtures"]


def read_run(run):
    return json.loads((run / "run.json").read_text())


def starting_from(recipe, run):
    training = dataclasses.replace(recipe.training, epochs=1, start=str(run))
    return dataclasses.replace(recipe, training=training)


@pytest.mark.parametrize("size", [(64, 96), (24, 16, 40)])
def test_half_of_the_squares_or_cubes_of_each_image_are_blank(size):
    torch.manual_seed(0)
    side = 16 if len(size) == 2 else 8
    blank = draw_blanks(torch.zeros(3, 2, *size))
    assert blank.shape == (3, 1, *size)
    cells = blank.float()
    for axis in range(2, blank.ndim):
        cells = cells.unfold(axis, side, side)
    means = cells.flatten(2 + len(size)).mean(dim=-1)
    assert set(means.unique().tolist()) == {0.0, 1.0}
    count = means[0].numel()
    assert means.flatten(1).sum(dim=1).tolist() == [np.ceil(count / 2)] * 3
    assert not torch.equal(blank[0], blank[1])


def test_a_size_that_is_no_multiple_of_the_side_is_covered():
    blank = draw_blanks(torch.zeros(1, 1, 40, 23))
    assert blank.shape == (1, 1, 40, 23)
    assert 0 < blank.float().mean() < 1


def test_what_is_painted_counts_where_it_is_blank_alone():
    torch.manual_seed(0)
    images = torch.rand(2, 1, 64, 64)
    seen = []

    def paint(shown):
        seen.append(shown)
        right_where_blank = torch.where(shown == images, 7.0, images)
        return torch.nn.functional.avg_pool2d(right_where_blank, 2).repeat(1, 4, 1, 1)

    loss, parts = PaintBlanks()(paint, images, torch.zeros(2, 64, 64))
    assert float(loss) == pytest.approx(0.0, abs=1e-9)
    assert parts == {"painted": loss}
    wrong, _ = PaintBlanks()(lambda shown: 1 + 0 * paint(shown), images, torch.zeros(2, 64, 64))
    assert float(wrong) > 0.1
    assert not torch.equal(seen[0], images)


def test_a_training_starts_from_what_images_without_labels_taught(recipe, tmp_path):
    few = dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, train_fraction=0.3))
    run = tmp_path / "painted"
    weights = pretrain(few, run, epochs=2, threads=1)
    record, cases = read_run(run), list_recipe_cases(recipe)
    everyone = {case.patient_id for case in cases}
    assert set(record["split"]["train"]) == everyone - {
        *record["split"]["val"],
        *record["split"]["test"],
    }
    assert record["unlabelled"]["images"] == 2 * len(record["split"]["train"])
    assert not (run / "checkpoint.safetensors").exists()
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in log] == [1, 2]
    assert log[1]["loss"] < log[0]["loss"]

    train(starting_from(few, run), tmp_path / "trained", threads=1)
    trained = read_run(tmp_path / "trained")
    assert len(trained["split"]["train"]) < len(record["split"]["train"])
    assert trained["start"]["run"] == "painted"
    [step] = open_finished(tmp_path / "trained").compression
    count = record["unlabelled"]["images"]
    assert step.startswith(f"taught before by {count} images without labels: weights with sha256")
    assert load_file(weights).keys() == load_file(tmp_path / "trained/weights.safetensors").keys()


def test_the_head_is_as_fresh_as_without(recipe, tmp_path):
    found = load_file(pretrain(recipe, tmp_path / "run", epochs=1, threads=1))
    torch.manual_seed(recipe.training.seed)
    fresh = module.create(recipe.deployment.model).state_dict()
    heads = [name for name in found if name.startswith("head.")]
    assert heads
    assert all(np.array_equal(found[name], fresh[name].numpy()) for name in heads)
    others = [name for name in found if name.endswith("weight") and name not in heads]
    assert all(not np.array_equal(found[name], fresh[name].numpy()) for name in others)


def test_a_stopped_pretraining_goes_on_to_the_same_weights(recipe, tmp_path):
    whole = load_file(pretrain(recipe, tmp_path / "whole", epochs=2, threads=1))
    run = tmp_path / "stopped"
    with pytest.raises(StoppedError):
        pretrain(recipe, run, epochs=2, threads=1, on_progress=stop_after_first)
    assert not (run / "weights.safetensors").exists()
    again = load_file(pretrain(recipe, run, epochs=2, threads=1))
    assert all(np.array_equal(whole[name], again[name]) for name in whole)


def test_images_of_folders_are_learned_from_and_copies_of_the_data_set_are_not(recipe, tmp_path):
    cases = list_recipe_cases(recipe)
    folder = tmp_path / "more"
    folder.mkdir()
    for number in range(3):
        image = make_fan(1, 48, 64, seed=100 + number)[0]
        write_nifti(image.T, folder / f"new{number}.nii.gz", spacing_mm=SQUARE_MM)
    (folder / "copy.nii.gz").write_bytes(cases[0].image.read_bytes())
    further = find_further([folder], cases)
    assert [case.image.name for case in further.cases] == [f"new{n}.nii.gz" for n in range(3)]
    [reason] = further.left_out
    assert "copy.nii.gz is left out" in reason
    assert cases[0].case_id in reason
    assert not find_further([cases[0].image.parent.parent], cases).cases  # the data set itself

    pretrain(recipe, tmp_path / "run", images=[folder], epochs=1, threads=1)
    known = read_run(tmp_path / "run")["unlabelled"]
    assert known["images"] == 3 + 2 * len(read_run(tmp_path / "run")["split"]["train"])
    assert len(known["sha256"]) == 3
    assert known["left_out"] == [reason]


def test_images_are_compared_once(recipe, tmp_path):
    path = tmp_path / "new.nii.gz"
    write_nifti(make_fan(1, 48, 64, seed=100)[0].T, path, spacing_mm=SQUARE_MM)
    compared = []

    def note(progress):
        if progress.stage == "comparing images":
            compared.append(progress.done)

    cases = list_recipe_cases(recipe)
    pretrain(recipe, tmp_path / "alone", epochs=1, threads=1, on_progress=note)
    assert compared == list(range(1, len(cases) + 1))
    compared.clear()
    pretrain(recipe, tmp_path / "more", images=[path], epochs=1, threads=1, on_progress=note)
    assert compared == list(range(1, len(cases) + 2))
    split = [read_run(tmp_path / name)["split"] for name in ("alone", "more")]
    assert split[0] == split[1]


def test_a_film_gives_frames_that_are_spread_over_it(recipe, tmp_path):
    path = tmp_path / "film.nii.gz"
    write_nifti(make_fan(40, 48, 64, seed=3).T, path, spacing_mm=SQUARE_MM)
    [case] = find_further([path], []).cases
    examples = module.load_unlabelled(case, recipe.deployment)
    assert len(examples) == 16
    assert not any(example.truth.any() for example in examples)


def test_an_image_that_cannot_be_read_is_named(recipe, tmp_path):
    broken = tmp_path / "broken.nii.gz"
    write_nifti(make_fan(1, 48, 64)[0].T, broken, spacing_mm=SQUARE_MM)
    broken.write_bytes(broken.read_bytes()[:-200])
    with pytest.raises(FormatError, match="broken"):
        pretrain(recipe, tmp_path / "run", images=[broken], epochs=1, threads=1)
    assert not (tmp_path / "run" / "weights.safetensors").exists()


def test_a_pretraining_is_no_network_that_draws(recipe, tmp_path):
    run = tmp_path / "painted"
    pretrain(recipe, run, epochs=1, threads=1)
    with pytest.raises(SpecError, match="draws nothing"):
        open_finished(run)
    taught = dataclasses.replace(recipe, distill=DistillSpec(str(run)))
    with pytest.raises(SpecError, match="draws nothing"):
        train(taught, tmp_path / "taught", threads=1)
    with pytest.raises(SpecError, match="another recipe"):
        pretrain(recipe, run, epochs=2, threads=1)


def test_a_training_may_not_start_from_images_of_its_test_patients(recipe, tmp_path):
    make_camus(tmp_path / "data", patients=12)
    data = dataclasses.replace(recipe.data, path=str(tmp_path / "data"), split_seed=5)
    pretrain(dataclasses.replace(recipe, data=data), tmp_path / "other", epochs=1, threads=1)
    with pytest.raises(SplitError):
        train(
            starting_from(
                dataclasses.replace(recipe, data=dataclasses.replace(data, split_seed=0)),
                tmp_path / "other",
            ),
            tmp_path / "trained",
            threads=1,
        )
