"""Eight-bit graphs by post-training quantization, for both runtimes: QDQ ONNX through NNCF."""

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import numpy_helper

from bedside.errors import UsageError
from bedside.quiet import quiet

_KEPT_IN_F32 = ("MatMul", "ReduceMean")


def quantize_int8(graph: bytes, calibration: Sequence[np.ndarray]) -> bytes:
    """Turn an f32 graph into one that computes in 8 bits, with 8-bit weights in the file.

    Weights have one scale a channel, activations one a tensor, read from the calibration
    images; biases are corrected for the rounding of weights. Attention's own products and
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
    model = _widen(onnx.load_from_string(graph))
    entry = model.graph.input[0]
    shape = tuple(size.dim_value for size in entry.type.tensor_type.shape.dim)
    if not calibration:
        raise UsageError("no calibration images; give some tens that training has seen.")
    for tensor in calibration:
        if tensor.shape != shape:
            raise UsageError(f"a calibration image has shape {tensor.shape}; expected {shape}.")
    with quiet():
        import nncf

        quantized: onnx.ModelProto = nncf.quantize(
            model,
            nncf.Dataset(list(calibration), lambda tensor: {entry.name: tensor}),
            preset=nncf.QuantizationPreset.PERFORMANCE,
            subset_size=len(calibration),
            fast_bias_correction=True,
            ignored_scope=nncf.IgnoredScope(types=list(_KEPT_IN_F32), validate=False),
        )
    content: bytes = _tidy(quantized).SerializeToString()
    return content


def _widen(model: onnx.ModelProto) -> onnx.ModelProto:
    """Turn weights that are stored in f16 behind a cast into f32 weights, as NNCF needs them."""
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    kept = []
    for node in model.graph.node:
        if node.op_type == "Cast" and node.input[0] in stored:
            half = stored.pop(node.input[0])
            weights = numpy_helper.to_array(half).astype(np.float32)
            stored[node.output[0]] = numpy_helper.from_array(weights, node.output[0])
        else:
            kept.append(node)
    for field, values in ((model.graph.initializer, stored.values()), (model.graph.node, kept)):
        values = list(values)
        del field[:]
        field.extend(values)
    return model


def _tidy(model: onnx.ModelProto) -> onnx.ModelProto:
    """Drop what no runtime reads: initializers that nothing uses, notes, shapes in between."""
    used = {name for node in model.graph.node for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
    for message in (model, model.graph, *model.graph.node, *model.graph.initializer):
        message.doc_string = ""
        del message.metadata_props[:]
    del model.graph.value_info[:]
    return model
