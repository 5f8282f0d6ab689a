"""Eight-bit graphs by post-training quantization, for both runtimes: QDQ ONNX through NNCF."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import numpy_helper

from bedside.errors import UsageError
from bedside.graphs.constant_folding import widen
from bedside.graphs.edit import drop_notes, drop_unused, shorten_names
from bedside.graphs.grid import find_grid
from bedside.system.cache import any_home
from bedside.system.quiet import quiet

_KEPT_IN_F32 = ("MatMul", "ReduceMean")


def quantize_int8(graph: bytes, calibration: Sequence[np.ndarray]) -> bytes:
    """Turn an f32 graph into one that computes in 8 bits, with 8-bit weights in the file.

    Weights have one scale a channel, activations one a tensor, read from the calibration
    images; biases are corrected for the rounding of weights. Weights that lie on a grid of
    fewer levels already keep it. Attention's own products and
    means stay in f32: in 8 bits they were not measurably faster, and softmax has a long
    tail near 0 that 255 levels lose. What the accuracy becomes must be measured
    afterwards: nothing here looks at it.

    Args:
        graph: Serialized ONNX from `export_onnx`, with one input.
        calibration: Tensors (1, C, H, W) float32, preprocessed as in use.

    Returns:
        Serialized ONNX with QuantizeLinear and DequantizeLinear.

    Raises:
        UsageError: If there are no calibration images, or one does not fit the graph.

    Source:
        Jacob et al., CVPR 2018, in Intel's NNCF.
    """
    model, weights = prepare(graph)
    quantized = quantize_model(model, calibration)
    restore_grids(quantized, weights)
    return tidy(quantized)


def quantize_model(model: onnx.ModelProto, calibration: Sequence[np.ndarray]) -> onnx.ModelProto:
    """Quantize what `prepare` gives; nodes keep their names.

    Raises:
        UsageError: If there are no calibration images, or one does not fit the graph.
    """
    entry = model.graph.input[0]
    shape = tuple(size.dim_value for size in entry.type.tensor_type.shape.dim)
    if not calibration:
        raise UsageError("no calibration images; give some tens that training has seen.")
    for tensor in calibration:
        if tensor.shape != shape:
            raise UsageError(f"a calibration image has shape {tensor.shape}; expected {shape}.")
    with quiet():
        with any_home():
            import nncf

        quantized: onnx.ModelProto = nncf.quantize(
            model,
            nncf.Dataset(list(calibration), lambda tensor: {entry.name: tensor}),
            preset=nncf.QuantizationPreset.PERFORMANCE,
            subset_size=len(calibration),
            fast_bias_correction=True,
            ignored_scope=nncf.IgnoredScope(types=list(_KEPT_IN_F32), validate=False),
        )
    return quantized


def prepare(graph: bytes) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """Graph with weights in f32 and named nodes, as quantizers need it.

    Returns:
        The graph, and the weights of its convolutions by the name of the node.
    """
    model = onnx.load_from_string(graph)
    widen(model)
    for node in model.graph.node:
        node.name = node.output[0]
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    weights = {
        node.name: numpy_helper.to_array(tensors[node.input[1]])
        for node in model.graph.node
        if node.op_type == "Conv" and node.input[1] in tensors
    }
    return model, weights


def restore_grids(quantized: onnx.ModelProto, weights: Mapping[str, np.ndarray]) -> None:
    """Restore the integers and scales of weights that lie on a grid of few levels, in place.

    The quantizer knows nothing of the grid: it has rounded such weights once more, to the
    nearest of 255 levels.

    Args:
        quantized: Graph whose convolutions read int8 weights through a DequantizeLinear.
        weights: Weights of each convolution before, by the name of its node.
    """
    tensors = {tensor.name: tensor for tensor in quantized.graph.initializer}
    makers = {node.output[0]: node for node in quantized.graph.node}
    for node in quantized.graph.node:
        if node.op_type != "Conv" or node.name not in weights:
            continue
        rescaled = makers.get(node.input[1])
        grid = find_grid(weights[node.name])
        if grid is None or rescaled is None or rescaled.op_type != "DequantizeLinear":
            continue
        name, scale = rescaled.input[:2]
        if tuple(tensors[scale].dims) == grid.scale.shape:
            tensors[name].CopyFrom(numpy_helper.from_array(grid.integers, name))
            tensors[scale].CopyFrom(numpy_helper.from_array(grid.scale, scale))


def tidy(model: onnx.ModelProto) -> bytes:
    """Drop what no runtime reads, and make names short.

    Values of the float graph keep the names that they have there, so that layers are found.
    """
    drop_unused(model)
    drop_notes(model)
    # `prepare` names nodes after their values; those that the quantizer added are not.
    shorten_names(model, keep={n.name for n in model.graph.node if n.name in n.output})
    content: bytes = model.SerializeToString()
    return content
