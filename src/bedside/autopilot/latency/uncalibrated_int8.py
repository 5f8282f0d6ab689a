"""A graph in 8 bits whose ranges are guesses: as fast as a calibrated one, and only for timing.

Calibration takes seconds for the smallest graph, and a table of block times needs hundreds.
"""

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bedside.graphs.edit import set_nodes

# What keeps values at or above 0, so that they are stored without a sign.
_UNSIGNED = ("Relu",)


def quantize_uncalibrated(graph: bytes) -> bytes:
    """Graph with quantizers where a calibrated graph has them, with guessed ranges.

    Args:
        graph: Serialized ONNX in f32.

    Returns:
        The graph with QuantizeLinear and DequantizeLinear; what it computes means nothing.
    """
    model = onnx.load_from_string(graph)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    makers = {name: node.op_type for node in model.graph.node for name in node.output}
    # Convolutions, and sums of features, are computed in 8 bits; see `compression.quantize`.
    features = _list_features(model, makers)
    nodes: list[onnx.NodeProto] = []
    known: dict[str, str] = {}
    for node in model.graph.node:
        if node.op_type == "Conv" or (node.op_type == "Add" and features.issuperset(node.input)):
            for place, name in enumerate(node.input[:2]):
                if name not in known:
                    unsigned = makers.get(name, "Relu") in _UNSIGNED
                    new = _quantize(model, weights, name, unsigned=unsigned)
                    nodes.extend(new)
                    known[name] = new[-1].output[0]
                node.input[place] = known[name]
        nodes.append(node)
    set_nodes(model, nodes)
    content: bytes = model.SerializeToString()
    return content


def _list_features(model: onnx.ModelProto, makers: Mapping[str, str]) -> set[str]:
    """Names of the f32 features of a graph: no weights, sizes or indices."""
    inferred = onnx.shape_inference.infer_shapes(model).graph
    return {
        value.name
        for value in inferred.value_info
        if value.type.tensor_type.elem_type == TensorProto.FLOAT
        and makers.get(value.name, "Constant") != "Constant"
    }


def _quantize(
    model: onnx.ModelProto, weights: dict[str, TensorProto], name: str, *, unsigned: bool
) -> list[onnx.NodeProto]:
    """Nodes that quantize a value or a weight."""
    scale, zero, whole = (f"{name}_{part}" for part in ("scale", "zero", "int8"))
    back = helper.make_node("DequantizeLinear", [whole, scale, zero], [f"{name}_back"])
    if name not in weights:
        kind = np.uint8 if unsigned else np.int8
        _add(model, scale, np.array(1 / 64, np.float32))
        _add(model, zero, np.array(0, kind))
        return [helper.make_node("QuantizeLinear", [name, scale, zero], [whole]), back]
    array = numpy_helper.to_array(weights[name])
    largest = np.abs(array).reshape(len(array), -1).max(axis=1)
    scales = np.maximum(largest, 1e-6).astype(np.float32) / 127
    steps = array / scales.reshape(-1, *[1] * (array.ndim - 1))
    # A scale a channel, along the first axis.
    back.attribute.append(helper.make_attribute("axis", 0))
    _add(model, scale, scales)
    _add(model, zero, np.zeros(len(array), np.int8))
    _add(model, whole, np.rint(steps).astype(np.int8))
    return [back]


def _add(model: onnx.ModelProto, name: str, array: np.ndarray) -> None:
    model.graph.initializer.append(numpy_helper.from_array(array, name))
