"""A network trained for 8 bits computes as its graph will."""

import copy

import numpy as np
import onnx
import pytest
import torch

from bedside.compression.qat import InputRange, attach
from bedside.compression.quantize import quantize_int8
from bedside.errors import UsageError
from bedside.export.onnx import export_onnx
from bedside.export.parity import make_inputs
from bedside.layers.rounding import round_to_bits, round_weights
from bedside.models import TrainedNetwork, create
from bedside.runtime import BACKENDS, open_graph
from bedside.spec import LevelSpec, ModelSpec
from models_for_tests import INPUT_SHAPE, make_model, make_noise, make_spec
from processors_for_tests import NEEDS_INT8
from tolerances import INT8_MEAN_RTOL

CALIBRATION = make_inputs(INPUT_SHAPE, count=8)


@pytest.fixture(scope="module")
def attached() -> torch.nn.Module:
    return attach(copy.deepcopy(make_model()), CALIBRATION).eval()


@pytest.fixture(scope="module")
def network(attached):
    return TrainedNetwork.of(round_to_bits(copy.deepcopy(attached)), make_spec().model)


@pytest.fixture(scope="module")
def graph(network) -> bytes:
    return quantize_int8(export_onnx(network.create(), input_shape=INPUT_SHAPE), CALIBRATION)


def read_ranges(model) -> dict[str, InputRange]:
    """Range of what each convolution reads, by its path; a borrowed one has its owner's."""
    return {
        path: hook
        for path, module in model.named_modules()
        for hook in getattr(module, "shared_with", module)._forward_pre_hooks.values()
        if isinstance(hook, InputRange)
    }


def test_names_and_values_of_the_state_stay(attached) -> None:
    before, after = make_model().state_dict(), attached.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_every_weight_learns_in_8_bits_and_ranges_follow_what_is_seen(attached) -> None:
    model = copy.deepcopy(attached).train()
    before = {path: each.high for path, each in read_ranges(model).items()}
    model(2 * torch.from_numpy(make_noise(2))).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    after = {path: each.high for path, each in read_ranges(model).items()}
    assert before["stem.0.0"] < after["stem.0.0"] < 2
    model.eval()(torch.from_numpy(make_noise()))
    assert {path: each.high for path, each in read_ranges(model).items()} == after
    # A copy has ranges of its own.
    assert {path: each.high for path, each in read_ranges(attached).items()} == before


def test_every_convolution_has_a_range_and_knows_whether_it_is_signed(attached) -> None:
    ranges = read_ranges(attached)
    convolutions = [n for n, m in attached.named_modules() if isinstance(m, torch.nn.Conv2d)]
    assert list(ranges) == convolutions
    assert not ranges["levels.0.0.spatial.0"].signed
    assert ranges["head"].signed


def test_weights_come_out_on_their_grid_and_the_model_plain(network) -> None:
    name = "levels.1.0.expand.0.weight"
    assert torch.equal(network.weights[name], round_weights(make_model().state_dict()[name], 8))
    assert not read_ranges(network.create())


@NEEDS_INT8
@pytest.mark.parametrize("backend", [backend.name for backend in BACKENDS])
def test_the_graph_computes_what_the_trained_network_does(graph, attached, backend) -> None:
    session = open_graph(graph, backend=backend, precision="int8", threads=1)
    for seed in range(3):
        image = make_noise(seed=seed)
        with torch.inference_mode():
            wanted = attached(torch.from_numpy(image)).numpy()
        error = np.abs(session.predict(image) - wanted).mean() / np.abs(wanted).max()
        assert error < INT8_MEAN_RTOL


def test_it_is_quantized_where_plain_quantization_is(graph) -> None:
    plain = onnx.load_from_string(
        quantize_int8(export_onnx(make_model(), input_shape=INPUT_SHAPE), CALIBRATION)
    )
    trained = onnx.load_from_string(graph)
    assert [n.op_type for n in plain.graph.node] == [n.op_type for n in trained.graph.node]


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_borrowed_convolutions_have_the_range_of_their_lender(spatial_dims) -> None:
    torch.manual_seed(0)
    level = LevelSpec("window", 16, 2, num_heads=2, head_dim=8, window=4, shared="mlp")
    spec = ModelSpec("hybrid", 1, 2, (level,), 8, 8, spatial_dims=spatial_dims, stem_stride=2)
    model = create(spec).eval()
    attach(model, [np.random.default_rng(0).random((1, 1, *[16] * spatial_dims), dtype=np.float32)])
    ranges = read_ranges(model)
    assert ranges["levels.0.1.expand.0"] is ranges["levels.0.0.expand.0"]
    x = torch.rand(1, 1, *[16] * spatial_dims)
    with torch.no_grad():
        assert torch.isfinite(model(x)).all()


def test_no_calibration_images_are_refused() -> None:
    with pytest.raises(UsageError, match="no calibration images"):
        attach(copy.deepcopy(make_model()), [])
