import dataclasses

import pytest
import torch

from bedside.autopilot.finetune import FinetuneSetup, finetune
from bedside.build import open_finished
from bedside.compression.prune import keep_units
from bedside.compression.sparsity import apply_masks, keep_zeros
from bedside.models import TrainedNetwork
from bedside.training.checkpoint import load_tensors
from bedside.training.dataset import load_cases
from bedside.training.validate import validate
from runs_for_tests import StoppedError

pytest_plugins = ["autopilot_fixtures"]


@pytest.fixture(scope="module")
def setup(trained):
    finished = open_finished(trained)
    examples = load_cases(finished.part("train"), finished.recipe.deployment)
    return FinetuneSetup(finished.recipe, examples, (source(trained).create(),), epochs=2)


def source(trained):
    spec = open_finished(trained).recipe.deployment.model
    return TrainedNetwork(spec, load_tensors(trained / "weights.safetensors")[0])


@pytest.fixture(scope="module")
def pruned(trained):
    return keep_units(
        source(trained), {"hidden.levels.0.0": range(8), "hidden.levels.1.0": range(16)}
    )


def mean_dice(network, trained):
    finished = open_finished(trained)
    spec = dataclasses.replace(finished.recipe.deployment, model=network.spec)
    examples = load_cases(finished.part("val"), spec)
    scores = validate(network.create(), examples, spec=spec, device=torch.device("cpu"))
    return sum(scores) / len(scores)


def same(one, other):
    return all(torch.equal(one.weights[name], other.weights[name]) for name in one.weights)


def test_finetuning_brings_back_what_pruning_took(pruned, setup, trained, tmp_path):
    longer = dataclasses.replace(setup, epochs=4)
    finetuned = finetune(pruned, longer, checkpoint=tmp_path / "c")
    before, after = mean_dice(pruned, trained), mean_dice(finetuned, trained)
    assert finetuned.spec == pruned.spec
    assert after > before + 0.02


def test_a_resumed_finetuning_ends_where_an_unbroken_one_ends(pruned, setup, tmp_path):
    def stop(done, resources):
        raise StoppedError

    unbroken = finetune(pruned, setup, checkpoint=tmp_path / "unbroken")
    with pytest.raises(StoppedError):
        finetune(pruned, setup, checkpoint=tmp_path / "broken", on_epoch=stop)
    told = []
    continued = finetune(
        pruned, setup, checkpoint=tmp_path / "broken", on_epoch=lambda done, m: told.append(done)
    )
    assert told == [2]
    assert same(unbroken, continued)


def test_without_epochs_only_norms_are_measured_anew(pruned, setup, tmp_path):
    finetuned = finetune(pruned, dataclasses.replace(setup, epochs=0), checkpoint=tmp_path / "c")
    moved = {name for name in finetuned.weights if not torch.equal(finetuned.weights[name],
                                                                 pruned.weights[name])}  # fmt: skip
    assert moved
    assert all(name.endswith(("running_mean", "running_var")) for name in moved)
    assert not (tmp_path / "c").exists()


def test_what_is_masked_stays_masked(pruned, setup, tmp_path):
    name = "stem.1.0.weight"
    mask = torch.rand(pruned.weights[name].shape, generator=torch.Generator().manual_seed(0)) < 0.5

    finetuned = finetune(
        apply_masks(pruned, {name: mask}),
        dataclasses.replace(setup, epochs=1),
        checkpoint=tmp_path / "c",
        prepare=lambda model: keep_zeros(model, {name: mask}),
    )
    assert torch.equal(finetuned.weights[name] != 0, mask)


def test_the_teacher_is_not_changed(pruned, setup, tmp_path):
    [teacher] = setup.teachers
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    finetune(pruned, dataclasses.replace(setup, epochs=1), checkpoint=tmp_path / "c")
    assert all(torch.equal(before[name], value) for name, value in teacher.state_dict().items())
