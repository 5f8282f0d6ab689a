"""Zeros and training for 8 bits: steps of a compression run that are asked for by name."""

import dataclasses

import pytest
import torch

from bedside.autopilot.compress import steps
from bedside.autopilot.compress.compress import CompressionResources, open_run
from bedside.autopilot.finetune import finetune
from bedside.autopilot.source import open_source
from bedside.autopilot.target import CompressionSettings, Target
from bedside.compression.sparsity import find_masks
from clocks_for_tests import Counting
from processors_for_tests import NEEDS_INT8

pytest_plugins = ["autopilot_fixtures"]

EFFORT = CompressionSettings(epochs=1, calibration_images=8, timing_s=0.1)


def make_run(trained, folder, target, *also):
    return open_run(
        open_source(trained),
        folder / "out",
        target=target,
        effort=dataclasses.replace(EFFORT, also=also),
        resources=CompressionResources(tables=folder, threads=1, clock=Counting()),
    )


def count_zeros(network):
    weights = [network.weights[name] for name in find_masks(network, fraction=0.0)]
    return sum(int((w == 0).sum()) for w in weights) / sum(w.numel() for w in weights)


def test_they_are_tried_only_if_they_are_asked_for():
    assert not {"qat", "sparsity"} & set(steps.list_stages(EFFORT))
    asked = dataclasses.replace(EFFORT, also=("qat", "sparsity"))
    assert steps.list_stages(asked)[-2:] == ("qat", "sparsity")


def test_zeros_make_the_bundle_smaller_and_training_keeps_them(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(steps, "_SEQUENCE", ("sparsity",))
    run = make_run(trained, tmp_path, Target(max_size_bytes=1000, max_drop=0.9), "sparsity")
    source = run.state.metrics.size_bytes
    state = run.run()
    kept = [step for step in state.steps if step.kept]
    assert next(step.about for step in kept) == "50% of the weights at zero"
    assert state.metrics.size_bytes < 0.8 * source
    sparse = run.current.network
    assert count_zeros(sparse) >= 0.5
    prepare = steps.STEP_KINDS["sparsity"].prepare(run.evaluator, sparse)
    tuned = finetune(sparse, run.evaluator.setup, checkpoint=tmp_path / "c", prepare=prepare)
    assert count_zeros(tuned) == pytest.approx(count_zeros(sparse), abs=1e-3)
    name = "downs.0.0.weight"
    assert not torch.equal(tuned.weights[name], sparse.weights[name])


@NEEDS_INT8
def test_training_for_8_bits_is_a_step_of_its_own(trained, tmp_path, monkeypatch):
    monkeypatch.setattr(steps, "_SEQUENCE", ("qat",))
    run = make_run(trained, tmp_path, Target(target_ms=0.01, max_drop=0.9), "qat")
    proposal = steps.propose_qat(
        run.evaluator,
        steps.CompressionState(run.current, 1.0, "ms", 0.1, 0.5, frozenset()),
    )
    assert proposal.candidate.precision == "int8"
    prepare = steps.STEP_KINDS["qat"].prepare(run.evaluator, proposal.candidate.network)
    tuned = finetune(
        run.current.network, run.evaluator.setup, checkpoint=tmp_path / "c", prepare=prepare
    )
    assert tuned.spec == run.current.network.spec
    assert not torch.equal(tuned.weights["head.weight"], run.current.network.weights["head.weight"])
    assert set(tuned.weights) == set(run.current.network.weights)
    score = run.evaluator.score(dataclasses.replace(proposal.candidate, network=tuned))
    assert set(score.mean_dice()) == {"inner", "outer"}
