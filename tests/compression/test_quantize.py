import contextlib
import io

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from bedside.bundle import check_graph
from bedside.compression.quantize import quantize_int8
from bedside.errors import UsageError
from bedside.export.parity import make_inputs
from bedside.runtime import BACKENDS, open_graph
from models_for_tests import INPUT_SHAPE, LOGIT_SHAPE, make_graph, make_noise, run_torch
from processors_for_tests import NEEDS_INT8
from tolerances import INT8_MEAN_RTOL

CALIBRATION = make_inputs(INPUT_SHAPE, count=8)


@pytest.fixture(scope="module")
def quantized() -> bytes:
    return quantize_int8(make_graph(), CALIBRATION)


def test_weights_of_convolutions_are_bytes_in_the_file(quantized: bytes) -> None:
    model = onnx.load_from_string(quantized)
    onnx.checker.check_model(model, full_check=True)
    kinds = {t.name: t.data_type for t in model.graph.initializer if len(t.dims) == 4}
    assert set(kinds.values()) == {TensorProto.INT8}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv"]
    assert len(kinds) == len(convolutions)
    assert len(quantized) < len(make_graph())


def test_weights_have_one_scale_a_channel(quantized: bytes) -> None:
    model = onnx.load_from_string(quantized)
    sizes = {t.name: tuple(t.dims) for t in model.graph.initializer}
    rescaled = [
        (sizes[node.input[0]][0], sizes[node.input[1]])
        for node in model.graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in sizes
    ]
    assert len(rescaled) > 10
    assert all(scales == (channels,) for channels, scales in rescaled)


def test_convolutions_give_the_values_that_they_give_in_the_float_graph(quantized: bytes) -> None:
    plain, rounded = (onnx.load_from_string(graph) for graph in (make_graph(), quantized))
    values = [
        [node.output[0] for node in model.graph.node if node.op_type == "Conv"]
        for model in (plain, rounded)
    ]
    assert values[0] == values[1]


def test_attention_reads_nothing_in_bytes(quantized: bytes) -> None:
    model = onnx.load_from_string(quantized)
    makers = {name: node for node in model.graph.node for name in node.output}
    products = [node for node in model.graph.node if node.op_type == "MatMul"]
    assert products
    sources = {makers[name].op_type for node in products for name in node.input}
    assert "Softmax" in sources
    assert "DequantizeLinear" not in sources


def test_the_guard_of_bundles_lets_it_through(quantized: bytes) -> None:
    signature = check_graph(quantized, where="x")
    assert signature.inputs == {"image": INPUT_SHAPE}
    assert list(signature.outputs.values()) == [LOGIT_SHAPE]


@NEEDS_INT8
@pytest.mark.parametrize("name", [backend.name for backend in BACKENDS])
def test_every_backend_runs_it_close_to_torch(quantized: bytes, name: str) -> None:
    opened = open_graph(quantized, backend=name, precision="int8", threads=2)
    wanted = run_torch(make_noise())
    logits = opened.predict(make_noise())
    assert np.abs(logits - wanted).mean() / np.abs(wanted).max() < INT8_MEAN_RTOL
    assert not np.array_equal(logits, wanted)


def test_quantizing_is_silent_and_repeatable(quantized: bytes) -> None:
    seen = io.StringIO()
    with contextlib.redirect_stdout(seen), contextlib.redirect_stderr(seen):
        again = quantize_int8(make_graph(), CALIBRATION)
    assert seen.getvalue() == ""
    assert again == quantized


def test_calibration_that_does_not_fit_is_refused() -> None:
    with pytest.raises(UsageError, match="no calibration images"):
        quantize_int8(make_graph(), [])
    with pytest.raises(UsageError, match=r"has shape \(1, 1, 8, 8\); expected \(1, 1, 64, 64\)"):
        quantize_int8(make_graph(), [np.zeros((1, 1, 8, 8), np.float32)])
