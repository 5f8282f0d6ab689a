"""A run whose spec has bits: trained, stopped and continued, built, and read back."""

import dataclasses

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from bedside.build import build_bundle
from bedside.bundle import read_bundle
from bedside.compression.lowbit import choose_bits, round_weights
from bedside.models import TrainedNetwork
from bedside.runtime import open_session
from bedside.training.checkpoint import load_tensors
from bedside.training.run import train
from runs_for_tests import StoppedError, make_camus, make_recipe, stop_after_first


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    data = make_camus(tmp_path_factory.mktemp("data"))
    plain = make_recipe(data, epochs=2)
    bits = choose_bits(plain.deployment.model, bits=2)
    model = dataclasses.replace(plain.deployment.model, bits=bits)
    return dataclasses.replace(
        plain,
        deployment=dataclasses.replace(plain.deployment, model=model),
        build=dataclasses.replace(plain.build, int8=False, max_dice_drop=1.0),
    )


@pytest.fixture(scope="module")
def run(recipe, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    train(recipe, folder, threads=1)
    return folder


def test_a_stopped_training_with_few_bits_takes_the_same_steps(recipe, run, tmp_path):
    with pytest.raises(StoppedError):
        train(recipe, tmp_path / "run", threads=1, on_progress=stop_after_first)
    again = load_tensors(train(recipe, tmp_path / "run", threads=1))[0]
    weights = load_tensors(run / "weights.safetensors")[0]
    assert list(again) == list(weights)
    assert all(torch.equal(again[name], weights[name]) for name in weights)


def test_weights_learn_below_their_rounding(recipe, run):
    """The run keeps what was learned, which rounding has not yet made of few levels."""
    weights = load_tensors(run / "weights.safetensors")[0]
    assert len(weights["levels.1.0.expand.0.weight"].unique()) > 1000
    network = round_weights(TrainedNetwork(recipe.deployment.model, weights))
    assert len(network.weights["levels.1.0.expand.0.weight"][0].unique()) <= 4


def test_the_bundle_says_its_bits_and_computes_what_the_settled_network_does(recipe, run, tmp_path):
    bundle = read_bundle(build_bundle(run, tmp_path / "tiny.bedside"))
    assert bundle.spec.model.bits == recipe.deployment.model.bits
    stored = onnx.load_from_string(bundle.read_graph("f32"))
    tensors = {t.name: numpy_helper.to_array(t) for t in stored.graph.initializer}
    packed = tensors["levels.1.0.expand.0.weight.q"]
    assert packed.dtype == np.uint8
    weights = load_tensors(run / "weights.safetensors")[0]
    assert packed.size * 4 == weights["levels.1.0.expand.0.weight"].numel()
    model = round_weights(TrainedNetwork(recipe.deployment.model, weights)).create()
    image = np.random.default_rng(0).random((1, 1, 64, 64), dtype=np.float32)
    with torch.no_grad():
        wanted = model(torch.from_numpy(image)).numpy()
    seen = open_session(bundle, precision="f32").predict(image)
    assert np.abs(seen - wanted).max() < 0.02 * np.abs(wanted).max()
