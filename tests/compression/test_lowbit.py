"""Every named network x bits: attached, learned, settled, exported, stored, rebuilt."""

import dataclasses
import functools

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from bedside.bundle import check_graph
from bedside.compression.lowbit import choose_bits, round_weights
from bedside.compression.lowrank import factorize
from bedside.compression.quantize import quantize_int8
from bedside.errors import SpecError, UsageError
from bedside.export.onnx import export_onnx
from bedside.export.parity import check_parity, make_inputs
from bedside.export.rebuild import rebuild_from_graph
from bedside.graphs.constant_folding import widen
from bedside.graphs.grid import find_grid
from bedside.graphs.space_to_depth_stem import from_cells
from bedside.layers.rounding import attach_bits
from bedside.models import NAMES, TrainedNetwork, create, named_spec
from bedside.spec import LevelSpec, ModelSpec, from_mapping, to_mapping
from bedside.spec.model import BITS
from tolerances import STORED_WEIGHTS_RTOL

LEVELS = {8: 255, 4: 15, 2: 4, 1: 2}
SIZES = {2: (32, 32), 3: (16, 16, 16)}


def make_network(spec: ModelSpec, size) -> TrainedNetwork:
    """A network whose batch norms have seen data, some with a negative factor."""
    torch.manual_seed(0)
    model = create(spec).train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d | torch.nn.BatchNorm3d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            module.weight.data[::5] *= -1
    with torch.no_grad():
        for _ in range(3):
            model(torch.rand(2, spec.in_channels, *size))
    return TrainedNetwork.of(model, spec)


def make_small(spatial_dims) -> ModelSpec:
    level = LevelSpec("window", 24, 1, num_heads=2, head_dim=8, window=4)
    return ModelSpec(
        "hybrid",
        1,
        3,
        (level,),
        stem_channels=16,
        decoder_channels=16,
        spatial_dims=spatial_dims,
        stem_stride=2,
    )


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("bits", BITS)
def test_bits_are_chosen_for_all_of_every_named_network(name, spatial_dims, bits):
    spec = named_spec(name, spatial_dims=spatial_dims, num_classes=3)
    chosen = choose_bits(spec, bits=bits)
    with torch.device("meta"):
        model = create(dataclasses.replace(spec, bits=chosen))
    convolutions = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d | torch.nn.Conv3d)]
    assert len(chosen) == len(convolutions)
    assert chosen["stem.0"] == chosen["head"] == 8
    assert chosen["stem.1"] == chosen["downs.0"] == bits


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("name", ["nano", "tiny"])
@pytest.mark.parametrize("bits", BITS)
def test_a_named_network_learns_with_few_bits_and_settles(name, spatial_dims, bits):
    size = SIZES[spatial_dims]
    network = make_network(named_spec(name, spatial_dims=spatial_dims, num_classes=3), size)
    chosen = choose_bits(network.spec, bits=bits, keep=())
    model = attach_bits(network.create(), chosen).train()
    model(torch.rand(2, 1, *size)).square().mean().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    model.eval()
    settled = round_weights(TrainedNetwork.of(model, network.spec), chosen)
    assert settled.spec.bits == chosen
    with torch.no_grad():
        x = torch.rand(1, 1, *size)
        assert torch.equal(settled.create()(x), model(x))
    for path in ("levels.1.0.expand.0.weight", "head.weight"):
        for channel in settled.weights[path]:
            assert len(channel.unique()) <= LEVELS[bits]
    again = round_weights(settled)
    assert again.spec == settled.spec
    assert all(torch.equal(again.weights[n], settled.weights[n]) for n in settled.weights)


@functools.cache
def make_trained(spatial_dims) -> TrainedNetwork:
    return make_network(make_small(spatial_dims), SIZES[spatial_dims])


@functools.cache
def settle(bits, spatial_dims) -> TrainedNetwork:
    network = make_trained(spatial_dims)
    return round_weights(network, choose_bits(network.spec, bits=bits, keep=()))


@functools.cache
def export_settled(bits, spatial_dims) -> bytes:
    return export_onnx(
        settle(bits, spatial_dims).create(), input_shape=(1, 1, *SIZES[spatial_dims])
    )


@functools.cache
def measure_plain(spatial_dims) -> int:
    return len(
        export_onnx(make_trained(spatial_dims).create(), input_shape=(1, 1, *SIZES[spatial_dims]))
    )


@pytest.mark.parametrize(("bits", "spatial_dims"), [(8, 2), (4, 2), (2, 2), (1, 2), (4, 3), (1, 3)])
def test_folding_keeps_the_grid_and_the_file_holds_integers(bits, spatial_dims):
    shape = (1, 1, *SIZES[spatial_dims])
    model, graph = settle(bits, spatial_dims).create(), export_settled(bits, spatial_dims)
    check_graph(graph, where="the graph")
    check_parity(
        graph, model, inputs=make_inputs(shape, count=2, seed=3), tolerance=STORED_WEIGHTS_RTOL
    )
    stored = onnx.load_from_string(graph)
    onnx.checker.check_model(stored, full_check=True)
    kinds = {t.name: t.data_type for t in stored.graph.initializer if t.name.endswith(".q")}
    expected = onnx.TensorProto.INT8 if bits == 8 else onnx.TensorProto.UINT8
    assert set(kinds.values()) == {expected}
    widen(stored)
    tensors = {t.name: numpy_helper.to_array(t) for t in stored.graph.initializer}
    for node in stored.graph.node:
        if node.op_type == "Conv" and f"{node.input[1]}.q" in kinds:
            weight = tensors[node.input[1]]
            # A stem over cells of voxels has zeros between its weights.
            over_cells = weight.shape[2:] == (2, 2, 2)
            grid = find_grid(from_cells(weight) if over_cells else weight)
            assert grid is not None
            assert len(np.unique(grid.integers)) <= LEVELS[bits]
    if bits < 8:
        assert len(graph) < 0.6 * measure_plain(spatial_dims)


def test_a_graph_in_8_bits_keeps_the_grid_of_4() -> None:
    inputs = make_inputs((1, 1, *SIZES[2]), count=4)
    quantized = onnx.load_from_string(quantize_int8(export_settled(4, 2), inputs))
    tensors = {t.name: numpy_helper.to_array(t) for t in quantized.graph.initializer}
    integers = [value for value in tensors.values() if value.dtype == np.int8 and value.ndim == 4]
    assert len(integers) == 9
    assert all(np.abs(value).max() <= 7 for value in integers)


def test_the_spec_says_the_bits_and_an_old_one_says_nothing() -> None:
    spec = make_small(2)
    assert "bits" not in to_mapping(spec)
    chosen = choose_bits(spec, bits=2)
    with_bits = dataclasses.replace(spec, bits=chosen)
    assert from_mapping(ModelSpec, to_mapping(with_bits)) == with_bits
    assert from_mapping(ModelSpec, to_mapping(spec)) == spec


def test_a_network_of_few_bits_is_rebuilt_from_spec_and_weights() -> None:
    network = make_trained(2)
    settled = round_weights(network, choose_bits(network.spec, bits=1))
    x = torch.rand(1, 1, 32, 32)
    with torch.no_grad():
        logits = settled.create()(x)
        again = TrainedNetwork(
            settled.spec, TrainedNetwork.of(settled.create(), settled.spec).weights
        )
        assert torch.equal(again.create()(x), logits)


@pytest.mark.parametrize("bits", [8, 4, 2, 1])
def test_a_network_comes_back_out_of_its_graph_with_its_grid(bits) -> None:
    settled, shape = settle(bits, 2), (1, 1, *SIZES[2])
    rebuilt = rebuild_from_graph(export_settled(bits, 2), settled.spec, input_shape=shape)
    assert rebuilt.spec == settled.spec
    # Rounding what comes out of a graph changes nothing: it is on its grid already.
    again = round_weights(rebuilt)
    assert all(torch.equal(again.weights[n], rebuilt.weights[n]) for n in again.weights)
    x = torch.rand(shape)
    with torch.no_grad():
        difference = (rebuilt.create()(x) - settled.create()(x)).abs().max()
        assert difference < STORED_WEIGHTS_RTOL * settled.create()(x).abs().max()


def test_factors_of_a_convolution_are_rounded_each_for_itself() -> None:
    network = make_trained(2)
    factored = factorize(network, {"levels.0.0.expand": (8,)})
    settled = round_weights(factored, {"levels.0.0.expand": 2})
    names = [n for n in settled.weights if n.startswith("levels.0.0.expand.0.") and "weight" in n]
    assert len(names) == 2
    assert all(len(row.unique()) <= 4 for name in names for row in settled.weights[name])
    shape = (1, 1, *SIZES[2])
    stored = onnx.load_from_string(export_onnx(settled.create(), input_shape=shape))
    assert sum(tensor.name.endswith(".q") for tensor in stored.graph.initializer) == 2


def test_what_cannot_be_is_refused() -> None:
    spec = make_small(2)
    with pytest.raises(SpecError, match='bits of "head" is 3; expected one of 8, 4, 2, 1'):
        dataclasses.replace(spec, bits={"head": 3})
    with pytest.raises(UsageError, match="keep names"):
        choose_bits(spec, bits=4, keep=("haed",))
    with pytest.raises(SpecError, match="no convolution that can have few"):
        round_weights(make_trained(2), {"levels.9": 4})
