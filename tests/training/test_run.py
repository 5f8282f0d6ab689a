import dataclasses
import json

import pytest
from safetensors.numpy import load_file
from torch import nn

from bedside.errors import SpecError, SplitError
from bedside.spec import ScaleRange, TrainingSpec, ZScore
from bedside.training.run import train
from runs_for_tests import StoppedError, stop_after_first

pytest_plugins = ["training_fixtures"]


def test_a_stopped_and_continued_training_ends_where_an_unbroken_one_ends(recipe, tmp_path):
    unbroken = load_file(train(recipe, tmp_path / "unbroken", threads=1))
    with pytest.raises(StoppedError):
        train(recipe, tmp_path / "broken", threads=1, on_progress=stop_after_first)
    assert not (tmp_path / "broken" / "weights.safetensors").exists()
    continued = load_file(train(recipe, tmp_path / "broken", threads=1))
    assert all((continued[name] == unbroken[name]).all() for name in unbroken)
    logs = [
        [json.loads(line) for line in (tmp_path / run / "log.jsonl").read_text().splitlines()]
        for run in ("unbroken", "broken")
    ]
    assert [record["loss"] for record in logs[0]] == [record["loss"] for record in logs[1]]


def test_training_learns(recipe, tmp_path):
    spec = dataclasses.replace(recipe.training, epochs=25, validate_every=25)
    train(dataclasses.replace(recipe, training=spec), tmp_path, threads=1)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert log[-1]["loss"] < 0.6 * log[0]["loss"]
    assert log[-1]["dice"]["inner"] > 0.5
    assert (tmp_path / "curves.svg").read_text().startswith("<svg")
    validation = json.loads((tmp_path / "validation" / "evaluation.json").read_text())
    assert validation["structures"][0]["dice"]["mean"] > 0.5
    assert validation["structures"][0]["hd95_mm"]["mean"] > 0


def test_another_recipe_does_not_overwrite_a_run(recipe, tmp_path):
    short = dataclasses.replace(recipe, training=TrainingSpec(epochs=1, batch_size=4))
    train(short, tmp_path, threads=1)
    with pytest.raises(SpecError, match="another recipe"):
        train(recipe, tmp_path, threads=1)


def test_a_training_on_patches_learns_the_whole_image(recipe, tmp_path):
    training = dataclasses.replace(
        recipe.training, epochs=25, validate_every=25, patch_px=(32, 48), patches=2
    )
    train(dataclasses.replace(recipe, training=training), tmp_path, threads=1)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert log[-1]["dice"]["inner"] > 0.5


@pytest.mark.parametrize("patch_px", [(8,), (8, 8, 8), (0, 8)])
def test_patches_of_other_axes_are_refused(recipe, patch_px):
    training = dataclasses.replace(recipe.training, patch_px=patch_px)
    with pytest.raises(SpecError, match="patch_px"):
        dataclasses.replace(recipe, training=training)


@pytest.mark.parametrize("step", [ZScore(), ScaleRange(low=-1)])
def test_a_network_learns_from_values_outside_0_and_1(recipe, tmp_path, step):
    deployment = dataclasses.replace(
        recipe.deployment, preprocess=(*recipe.deployment.preprocess, step)
    )
    spec = dataclasses.replace(recipe.training, epochs=25, validate_every=25)
    changed = dataclasses.replace(recipe, deployment=deployment, training=spec)
    train(changed, tmp_path, threads=1)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert log[-1]["loss"] < 0.6 * log[0]["loss"]
    assert log[-1]["dice"]["inner"] > 0.5


def test_a_recorded_split_that_leaks_is_refused(recipe, tmp_path):
    short = dataclasses.replace(recipe, training=TrainingSpec(epochs=1, batch_size=4))
    train(short, tmp_path, threads=1)
    run = json.loads((tmp_path / "run.json").read_text())
    run["split"]["test"].append(run["split"]["train"][0])
    (tmp_path / "run.json").write_text(json.dumps(run))
    with pytest.raises(SplitError, match="leaks"):
        train(short, tmp_path, threads=1)


class Plain(nn.Module):
    """A network that knows nothing of levels or supervision, and draws chance by itself."""

    def __init__(self, spec):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(spec.in_channels, 8, 3, padding=1, stride=2),
            nn.ReLU(),
            nn.Dropout(0.2),
            nn.Conv2d(8, spec.num_classes, 1),
        )

    def forward(self, x):
        return self.layers(x)


def test_any_network_is_trained_by_the_same_loop_and_named(recipe, tmp_path):
    how = {"threads": 1, "create_model": Plain, "network": "plain"}
    unbroken = load_file(train(recipe, tmp_path / "unbroken", **how))
    assert set(unbroken) == set(Plain(recipe.deployment.model).state_dict())
    run = json.loads((tmp_path / "unbroken" / "run.json").read_text())
    assert run["network"] == "plain"
    assert run["parameters"] == 8 * 9 + 8 + 3 * 8 + 3
    with pytest.raises(StoppedError):
        train(recipe, tmp_path / "broken", on_progress=stop_after_first, **how)
    with pytest.raises(SpecError, match="the network plain, not hybrid"):
        train(recipe, tmp_path / "broken", threads=1)
    continued = load_file(train(recipe, tmp_path / "broken", **how))
    assert all((continued[name] == unbroken[name]).all() for name in unbroken)


def test_a_run_of_before_networks_had_names_is_taken_up(recipe, tmp_path):
    with pytest.raises(StoppedError):
        train(recipe, tmp_path, threads=1, on_progress=stop_after_first)
    run = json.loads((tmp_path / "run.json").read_text())
    del run["network"]
    for name in ("flip_axes", "rotate_axes_deg", "noise", "low_resolution"):
        del run["recipe"]["augment"][name]
    (tmp_path / "run.json").write_text(json.dumps(run))
    assert train(recipe, tmp_path, threads=1).exists()
