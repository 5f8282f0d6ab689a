"""Biases and channel scales of a graph, stored as one tensor."""

from collections import defaultdict

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bedside.graphs.edit import set_nodes, set_tensors

_LARGEST_HALF = 2.0**15


def join_columns(model: onnx.ModelProto, *, dropped_bits: int) -> None:
    """Store biases and channel scales as one f16 tensor, in place.

    A cast and a split separate them again; runtimes fold both when they load. One tensor instead
    of hundreds saves headers, which are a large part of a file of low-bit weights.

    Args:
        model: The graph.
        dropped_bits: Bits of f16's mantissa that are rounded away.
    """
    wanted = {
        name
        for node in model.graph.node
        for name in (node.input[2:] if node.op_type == "Conv" else node.input)
        if node.op_type in ("Conv", "Mul")
    }
    groups: dict[int, list[onnx.TensorProto]] = defaultdict(list)
    kept = []
    for tensor in model.graph.initializer:
        if tensor.name in wanted and _is_column(tensor):
            groups[len(tensor.dims)].append(tensor)
        else:
            kept.append(tensor)
    nodes = []
    for rank, tensors in groups.items():
        halves, sizes, joined = f"columns{rank}.h", f"columns{rank}.n", f"columns{rank}"
        values = np.concatenate([numpy_helper.to_array(tensor) for tensor in tensors])
        kept.append(numpy_helper.from_array(round_to_half(values, dropped_bits), halves))
        kept.append(
            numpy_helper.from_array(np.array([t.dims[0] for t in tensors], np.int64), sizes)
        )
        nodes.append(helper.make_node("Cast", [halves], [joined], to=TensorProto.FLOAT))
        names = [tensor.name for tensor in tensors]
        nodes.append(helper.make_node("Split", [joined, sizes], names, axis=0))
    set_nodes(model, [*nodes, *model.graph.node])
    set_tensors(model, kept)


def round_to_half(weights: np.ndarray, dropped_bits: int) -> np.ndarray:
    """Round to the nearest f16 whose last bits are zero.

    Example:
        >>> round_to_half(np.float32([0.0, 1.0, -1.001, 0.3333]), 2).tolist()
        [0.0, 1.0, -1.0, 0.3330078125]
    """
    bits = weights.astype(np.float16).view(np.uint16)
    half_step = np.uint16((1 << dropped_bits) >> 1)
    rounded: np.ndarray = (bits + half_step) >> dropped_bits << dropped_bits
    return rounded.view(np.float16)


def _is_column(tensor: onnx.TensorProto) -> bool:
    """Whether a tensor is (N, 1, ...) in f32, and within the range of f16."""
    if tensor.data_type != TensorProto.FLOAT or not tensor.dims:
        return False
    values = numpy_helper.to_array(tensor)
    return values.size == len(values) and bool(np.abs(values).max(initial=0) <= _LARGEST_HALF)
