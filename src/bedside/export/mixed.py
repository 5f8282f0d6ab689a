"""Mixed precision: a quantized graph with some layers in f32."""

from collections.abc import Sequence

import onnx

from bedside.export.programs import GraphProgram
from bedside.graphs.constant_folding import fold_constants
from bedside.graphs.edit import drop_unused

_PAIR = ("QuantizeLinear", "DequantizeLinear")


def leave_in_f32(quantized: bytes, plain: GraphProgram, layers: Sequence[str]) -> bytes:
    """A quantized graph in which some convolutions compute in f32.

    The input of such a layer is not rounded, also for other layers that read it, and its weights
    and bias are those of the float graph.

    Args:
        quantized: Serialized ONNX with QuantizeLinear and DequantizeLinear.
        plain: The float graph that it was made from.
        layers: Names of convolutions, as `plain` has them.
    """
    model = onnx.load_from_string(quantized)
    before = {
        node.output[0]: node
        for node in onnx.load_from_string(plain.content).graph.node
        if node.op_type == "Conv"
    }
    wanted = {plain.layers[layer] for layer in layers}
    makers = {name: node for node in model.graph.node for name in node.output}
    added: dict[str, onnx.TensorProto] = {}
    for node in model.graph.node:
        if node.op_type == "Conv" and node.output[0] in wanted:
            _skip_pair(model, makers, node.input[0])
            added |= _restore_weights(node, before[node.output[0]], plain)
    model.graph.initializer.extend(added.values())
    drop_unused(model)
    content: bytes = model.SerializeToString()
    return content


def _skip_pair(model: onnx.ModelProto, makers: dict[str, onnx.NodeProto], value: str) -> None:
    """Connect the readers of a quantized value to the value before quantization."""
    second = makers.get(value)
    first = makers.get(second.input[0]) if second is not None else None
    if second is None or first is None or (first.op_type, second.op_type) != _PAIR:
        return
    source = first.input[0]
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            if name == value:
                node.input[place] = source


def _restore_weights(
    node: onnx.NodeProto, before: onnx.NodeProto, plain: GraphProgram
) -> dict[str, onnx.TensorProto]:
    """Connect a convolution to weights and bias of the float graph; returns them by name."""
    values = fold_constants(plain.content, [name for name in before.input[1:] if name])
    added = {}
    for place, name in enumerate(before.input[1:], 1):
        if name in values:
            node.input[place] = f"{name}_f32"
            added[node.input[place]] = onnx.numpy_helper.from_array(values[name], f"{name}_f32")
    return added
