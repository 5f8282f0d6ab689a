"""Trainings that start from the weights of another run."""

import dataclasses
import json

import pytest
from safetensors.numpy import load_file

from bedside.build import open_finished
from bedside.errors import FormatError, SpecError, SplitError
from bedside.spec import DistillSpec
from bedside.training.run import train

pytest_plugins = ["training_fixtures"]


def starting_from(recipe, run, **changes):
    training = dataclasses.replace(recipe.training, epochs=1, start=str(run), **changes)
    return dataclasses.replace(recipe, training=training)


def test_a_training_starts_from_the_weights_of_a_run_and_says_so(recipe, tmp_path):
    first = tmp_path / "first"
    train(recipe, first, threads=1)
    again = starting_from(recipe, first, learning_rate=1e-12, weight_decay=0.0, ema_decay=0.0)
    found = load_file(train(again, tmp_path / "again", threads=1))
    before = load_file(first / "weights.safetensors")
    kept = [name for name in before if "running" not in name and "num_batches" not in name]
    assert all(abs(found[name] - before[name]).max() < 1e-6 for name in kept)
    run = json.loads((tmp_path / "again" / "run.json").read_text())
    assert run["start"]["run"] == "first"
    assert run["start"]["patients"] == run["split"]["train"]
    [step] = open_finished(tmp_path / "again").compression
    assert step.startswith(f"trained further from {recipe.deployment.name}: weights with sha256")


def test_norms_that_are_held_keep_their_statistics_and_weights_learn(recipe, tmp_path):
    first = tmp_path / "first"
    train(recipe, first, threads=1)
    before = load_file(first / "weights.safetensors")
    again = starting_from(recipe, first, hold_norms=True, ema_decay=0.0)
    found = load_file(train(again, tmp_path / "again", threads=1))
    statistics = [name for name in before if "running" in name]
    assert statistics
    assert all((found[name] == before[name]).all() for name in statistics)
    assert any((found[name] != before[name]).any() for name in before if name.endswith("weight"))


def test_a_recipe_with_renorm_trains_and_its_weights_have_the_same_names(recipe, tmp_path):
    plain = load_file(train(recipe, tmp_path / "plain", threads=1))
    training = dataclasses.replace(recipe.training, renorm=True)
    found = load_file(
        train(dataclasses.replace(recipe, training=training), tmp_path / "renorm", threads=1)
    )
    assert found.keys() == plain.keys()
    assert any((found[name] != plain[name]).any() for name in found)


def test_teachers_may_see_the_image_without_its_shadows(recipe, tmp_path):
    first = tmp_path / "first"
    train(recipe, first, threads=1)
    augment = dataclasses.replace(recipe.augment, shadow=1.0)
    losses = []
    for clean_view in (False, True):
        student = dataclasses.replace(
            starting_from(recipe, first),
            augment=augment,
            distill=DistillSpec(str(first), clean_view=clean_view),
        )
        run = tmp_path / f"run-{clean_view}"
        train(student, run, threads=1)
        losses.append(json.loads((run / "log.jsonl").read_text())["parts"]["soft"])
    assert losses[0] != losses[1]


def test_a_start_that_has_seen_test_patients_or_is_another_network_is_refused(recipe, tmp_path):
    first = tmp_path / "first"
    train(recipe, first, threads=1)
    again = starting_from(recipe, first)
    other = dataclasses.replace(again, data=dataclasses.replace(recipe.data, split_seed=3))
    with pytest.raises(SplitError, match="the split leaks"):
        train(other, tmp_path / "leaks", threads=1)
    model = dataclasses.replace(recipe.deployment.model, decoder_channels=24)
    deployment = dataclasses.replace(recipe.deployment, model=model)
    with pytest.raises(SpecError, match="a run of another network"):
        train(dataclasses.replace(again, deployment=deployment), tmp_path / "other", threads=1)
    with pytest.raises(FormatError, match=r"nowhere is not there\. Train the start first"):
        train(starting_from(recipe, "nowhere"), tmp_path / "none", threads=1)
