"""An architecture is a file and a row: a U-Net trains and exports; what it lacks is refused."""

import dataclasses
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from bedside.autopilot.latency.blocks import list_blocks
from bedside.bundle.graph_guard import check_graph
from bedside.compression.importance import measure_importance
from bedside.compression.input_statistics import measure_inputs
from bedside.compression.kv_heads import merge_kv_heads
from bedside.compression.lowbit import choose_bits, round_weights
from bedside.compression.lowrank import factorize, list_candidates
from bedside.compression.prune import drop_block, keep_units, shrink
from bedside.compression.quantize import quantize_int8
from bedside.errors import SpecError, UsageError
from bedside.export.onnx import export_onnx
from bedside.export.parity import check_parity
from bedside.models import ARCHITECTURES, Architecture, TrainedNetwork, create
from bedside.spec import LevelSpec, ModelSpec, TrainingSpec
from bedside.training.tasks import Supervised
from tolerances import F32_LOGIT_ATOL

SIZES = {2: (24, 37), 3: (12, 17, 16)}


@pytest.fixture(autouse=True)
def _toy(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.setitem(ARCHITECTURES, "toy", Architecture("toy_unet:UNet"))
    yield
    sys.modules.pop("toy_unet", None)


def make_spec(dims=2, **changes):
    levels = tuple(LevelSpec("conv", channels, depth=1) for channels in (16, 24, 32))
    return ModelSpec("toy", 1, 3, levels, logit_stride=2, spatial_dims=dims, **changes)


def make_network(dims=2):
    torch.manual_seed(0)
    model = create(make_spec(dims)).train()
    with torch.no_grad():
        for _ in range(3):
            model(torch.rand(2, 1, *SIZES[dims]))
    return TrainedNetwork.of(model, make_spec(dims))


def make_batch(dims=2):
    images = torch.rand(2, 1, *SIZES[dims], generator=torch.Generator().manual_seed(1))
    return images, (images[:, 0] > 0.5).long()


@pytest.mark.parametrize("dims", [2, 3])
def test_it_learns_from_a_step_and_exports(dims):
    model = make_network(dims).create().train()
    images, truths = make_batch(dims)
    task = Supervised(TrainingSpec(), num_classes=3)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss, _ = task(model, images, truths)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[2] < losses[0]
    graph = export_onnx(model.eval(), input_shape=(1, 1, *SIZES[dims]))
    check_graph(graph, where="the graph")
    check_parity(graph, model, inputs=[images[:1].numpy()], tolerance=1e-2)
    assert b"QuantizeLinear" in quantize_int8(graph, [images[:1].numpy()])


def test_ranks_and_bits_need_nothing_from_it():
    network = make_network()
    batch = make_batch()
    inputs = measure_inputs(network, [batch])
    factored = factorize(
        network,
        {
            each.path: each.ranks
            for each in list_candidates(network, inputs=inputs, keep_energy=0.8)
        },
        inputs,
    )
    assert factored.spec.ranks
    rounded = round_weights(factored, choose_bits(factored.spec, bits=4))
    assert rounded.spec.bits["head"] == 4
    x = batch[0][:1]
    graph = export_onnx(rounded.create(), input_shape=tuple(x.shape))
    weights = {tensor.name for tensor in onnx.load_from_string(graph).graph.initializer}
    assert weights
    with torch.no_grad():
        assert np.isfinite(rounded.create()(x).numpy()).all()


def test_what_it_does_not_offer_is_refused_by_its_name():
    network = make_network()
    importance = measure_importance(network, (), None, method="magnitude")
    assert not importance.scores
    offers_none = 'architecture "toy" offers no'
    with pytest.raises(UsageError, match=f"{offers_none} groups of units to prune"):
        shrink(network, importance, part="hidden", ratio=0.5)
    with pytest.raises(UsageError, match=f"{offers_none} groups of units to prune"):
        keep_units(network, {"stem": range(8)})
    with pytest.raises(UsageError, match=f"{offers_none} removal of blocks"):
        drop_block(network, 0, 0)
    with pytest.raises(UsageError, match="every level has one head"):
        merge_kv_heads(network)
    for changes in ({"deep_supervision": True}, {"hidden": {"levels.0.0": 8}}):
        with pytest.raises(SpecError, match=f'"toy" has no {next(iter(changes))}: leave it out'):
            create(dataclasses.replace(network.spec, **changes))


def test_its_latency_is_that_of_the_whole_network():
    (whole,) = list_blocks(make_spec(), SIZES[2])
    assert whole.shape == (1, 1, *SIZES[2])
    wider = dataclasses.replace(make_spec(), levels=(LevelSpec("conv", 48, 1),) * 2)
    assert list_blocks(wider, SIZES[2])[0].key != whole.key
    with torch.no_grad():
        assert whole.module(torch.rand(whole.shape)).abs().max() > F32_LOGIT_ATOL
