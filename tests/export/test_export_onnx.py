import contextlib
import io
import logging
import warnings

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, numpy_helper
from torch import nn

from bedside.errors import ExportError
from bedside.export.onnx import EXACT_TOLERANCE, export_onnx, trace_quickly
from bedside.export.parity import check_parity, make_inputs
from bedside.models import create
from bedside.spec import named_spec
from models_for_tests import INPUT_SHAPE, make_graph, make_model, make_noise, make_plain_graph
from tolerances import STORED_WEIGHTS_RTOL

INPUTS = [make_noise(seed=seed) for seed in range(2)]


@pytest.fixture(scope="module")
def exported() -> onnx.ModelProto:
    return onnx.load_from_string(make_graph())


def test_an_exported_graph_is_valid_and_static(exported: onnx.ModelProto) -> None:
    onnx.checker.check_model(exported, full_check=True)
    assert [entry.version for entry in exported.opset_import if not entry.domain] == [20]
    shape = exported.graph.input[0].type.tensor_type.shape
    assert tuple(size.dim_value for size in shape.dim) == INPUT_SHAPE
    assert [value.name for value in exported.graph.input] == ["image"]
    assert [value.name for value in exported.graph.output] == ["logits"]


def test_batch_norms_are_folded(exported: onnx.ModelProto) -> None:
    assert any(isinstance(module, nn.BatchNorm2d) for module in make_model().modules())
    assert "BatchNormalization" not in {node.op_type for node in exported.graph.node}


def test_weights_are_stored_in_half_and_biases_are_not(exported: onnx.ModelProto) -> None:
    large = [t for t in exported.graph.initializer if len(t.dims) == 4 and np.prod(t.dims) >= 256]
    assert len(large) > 10
    assert {tensor.data_type for tensor in large} == {TensorProto.FLOAT16}
    biases = [tensor for tensor in exported.graph.initializer if "bias" in tensor.name]
    assert {tensor.data_type for tensor in biases} == {TensorProto.FLOAT}
    for tensor in large:
        assert not (numpy_helper.to_array(tensor).view(np.uint16) & 3).any()


def test_nothing_of_the_machine_that_exported_is_in_the_file() -> None:
    assert b"/site-packages/" not in make_graph()
    assert b".py" not in make_graph()


def test_exporting_is_silent_and_leaves_the_model_as_it_was() -> None:
    model = make_tiny().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    level, seen = logging.root.manager.disable, io.StringIO()
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(seen),
        contextlib.redirect_stderr(seen),
    ):
        warnings.simplefilter("error")
        export_onnx(model, input_shape=(1, 1, 16, 16))
    assert seen.getvalue() == ""
    assert logging.root.manager.disable == level
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def make_tiny() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())


def test_a_batch_norm_that_cannot_fold_is_refused() -> None:
    model = nn.Sequential(nn.BatchNorm2d(1), nn.ReLU(), nn.Conv2d(1, 4, 3, padding=1))
    with pytest.raises(ExportError, match="did not fold"):
        export_onnx(model, input_shape=(1, 1, 16, 16))


class _Undecided(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2 if x.sum() > 0 else x


def test_a_model_that_torch_cannot_export_is_an_export_error() -> None:
    with pytest.raises(ExportError, match="torch cannot export _Undecided") as caught:
        export_onnx(_Undecided(), input_shape=(1, 1, 16, 16))
    assert "\n" not in str(caught.value)


def test_weights_that_rounding_would_ruin_stay_in_f32() -> None:
    """The logits are a small difference of large products, which 9 bits cannot carry."""
    first, last = nn.Conv2d(1, 256, 1), nn.Conv2d(256, 1, 1)
    first.weight.data[0::2], first.weight.data[1::2] = 1000.9, -1000.1
    last.weight.data[:] = 1.0
    model = nn.Sequential(first, last).eval()
    graph = export_onnx(model, input_shape=(1, 1, 16, 16))
    check_parity(graph, model, inputs=make_inputs((1, 1, 16, 16)), tolerance=EXACT_TOLERANCE)
    kinds = {tensor.data_type for tensor in onnx.load_from_string(graph).graph.initializer}
    assert onnx.TensorProto.FLOAT16 not in kinds


def test_parity_holds_for_the_model_that_was_exported() -> None:
    worst = check_parity(make_graph(), make_model(), inputs=INPUTS, tolerance=STORED_WEIGHTS_RTOL)
    assert 0 < worst < STORED_WEIGHTS_RTOL


def test_parity_names_the_worst_difference_of_another_model() -> None:
    altered = onnx.load_from_string(make_graph())
    bias = next(t for t in altered.graph.initializer if t.name == "head.bias")
    moved = numpy_helper.to_array(bias).copy()
    moved[4] += 3.0  # the first channel of the second class, before the pixel shuffle
    bias.CopyFrom(numpy_helper.from_array(moved, bias.name))
    with pytest.raises(ExportError, match=r"at \(0, 1, \d*[02468], \d*[02468]\) of test input"):
        check_parity(altered.SerializeToString(), make_model(), inputs=INPUTS, tolerance=0.01)


def test_parity_refuses_another_shape() -> None:
    model = nn.Sequential(make_model(), nn.AvgPool2d(2))
    with pytest.raises(ExportError, match="torch gives"):
        check_parity(make_graph(), model, inputs=INPUTS, tolerance=1.0)


def test_parity_inputs_reach_the_corners_of_the_range() -> None:
    inputs = make_inputs(INPUT_SHAPE, count=4)
    assert len(inputs) == 6
    assert all(tensor.shape == INPUT_SHAPE and tensor.dtype == np.float32 for tensor in inputs)
    assert inputs[0].max() == 0
    assert inputs[1].min() == 1
    for tensor in inputs[2:]:
        assert 0 <= tensor.min() < 0.05
        assert 0.95 < tensor.max() <= 1
    repeated = make_inputs(INPUT_SHAPE, count=4)
    assert all(np.array_equal(a, b) for a, b in zip(inputs, repeated, strict=True))


@pytest.mark.parametrize("size", [(60, 100), (22, 26, 18)])
def test_a_graph_made_quickly_computes_the_same_at_odd_sizes(size):
    model = create(named_spec("nano", spatial_dims=len(size))).eval()
    inputs = make_inputs((1, 1, *size))
    graph = trace_quickly(model, torch.from_numpy(inputs[-1])).SerializeToString()
    check_parity(graph, model, inputs=inputs, tolerance=EXACT_TOLERANCE)


def test_a_temporary_graph_that_computes_something_else_is_refused(monkeypatch):
    traced = make_plain_graph()
    monkeypatch.setattr("bedside.export.onnx.trace_quickly", lambda model, example: traced)
    with pytest.raises(ExportError, match="differs from torch"):
        export_onnx(make_model(), input_shape=INPUT_SHAPE, quickly=True)
