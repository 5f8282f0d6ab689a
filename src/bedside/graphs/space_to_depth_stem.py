"""Space-to-depth for the first convolution: cells of 2x2x2 voxels become channels.

Runtimes are slow at a 3x3x3 convolution of stride 2 over one channel: each of its 27 taps is a
matrix product of depth 1, which kernels of 8 and 16 bits pad with zeros to a depth of 16 to 64.
With the 2x2x2 voxels of a cell as channels it is a 2x2x2 convolution of stride 1 over cells: 8
taps of depth 8, and the same sums. With one thread of a processor with AMX it takes 0.3 instead of
0.9 ms in bf16 for 40 x 56 x 40 voxels, and the same in f32, as in int8 without AMX. With two
channels nothing is gained, with four a tenth is lost; nothing is gained over two axes either.
"""

import itertools

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference

from bedside.graphs.edit import set_nodes

# Along an axis, a cell is voxels 2i and 2i + 1, and cells i - 1 and i are read: of each of the
# kernel's three taps, which cell and which voxel of it.
_TAPS = ((0, 1), (1, 0), (1, 1))


def read_by_cells(model: onnx.ModelProto) -> None:
    """Rewrite 3x3x3 convolutions of stride 2 over one channel to cells of 2x2x2 voxels, in place.

    Only where sizes are fixed and even. Names of weights and values stay.

    Args:
        model: Graph in f32 whose weights are initializers.

    Source:
        Space to depth, as TPU networks do it to their first convolution.
    """
    candidates = [node for node in model.graph.node if _is_candidate(node, model)]
    if not candidates:
        return
    shapes = _infer_shapes(model)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        shape = shapes.get(node.input[0], ()) if node in candidates else ()
        if not shape or any(size == 0 or size % 2 for size in shape[2:]):
            nodes.append(node)
            continue
        tensor = weights[node.input[1]]
        array = to_cells(numpy_helper.to_array(tensor))
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
        nodes.extend(_cut_cells(model, node.input[0], node.output[0], shape))
        convolution = helper.make_node(
            "Conv",
            [_name(node.output[0], "cells"), *node.input[1:]],
            node.output,
            name=node.name,
            pads=[1, 1, 1, 0, 0, 0],
        )
        nodes.append(convolution)
    set_nodes(model, nodes)


def to_cells(weight: np.ndarray) -> np.ndarray:
    """Weights over voxels as weights over cells.

    Args:
        weight: (O, 1, 3, 3, 3), for stride 2 and a padding of 1.

    Returns:
        (O, 8, 2, 2, 2), for stride 1 and a padding of 1 in front.

    Example:
        >>> to_cells(np.ones((4, 1, 3, 3, 3), np.float32)).shape
        (4, 8, 2, 2, 2)
    """
    by_tap = np.moveaxis(weight[:, 0], 0, -1)
    cells = np.zeros((2, 2, 2, 2, 2, 2, len(weight)), weight.dtype)
    for taps, place in _places():
        cells[place] = by_tap[taps]
    return np.moveaxis(cells, -1, 0).reshape(len(weight), 8, 2, 2, 2)


def from_cells(weight: np.ndarray) -> np.ndarray:
    """Weights over cells as weights over voxels, the inverse of `to_cells`.

    Example:
        >>> weight = np.random.default_rng(0).random((4, 1, 3, 3, 3))
        >>> bool((from_cells(to_cells(weight)) == weight).all())
        True
    """
    by_place = np.moveaxis(weight.reshape(-1, 2, 2, 2, 2, 2, 2), 0, -1)
    by_tap = np.zeros((3, 3, 3, len(weight)), weight.dtype)
    for taps, place in _places():
        by_tap[taps] = by_place[place]
    return np.ascontiguousarray(np.moveaxis(by_tap, -1, 0)[:, None])


def _places() -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Index of each tap over voxels, and of the same weight over cells."""
    pairs = []
    for taps in itertools.product(range(3), repeat=3):
        cells, voxels = zip(*(_TAPS[tap] for tap in taps), strict=True)
        pairs.append((taps, (*voxels, *cells)))
    return pairs


def _is_candidate(node: onnx.NodeProto, model: onnx.ModelProto) -> bool:
    if node.op_type != "Conv":
        return False
    given = {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}
    if (
        list(given.get("strides", ())) != [2, 2, 2]
        or list(given.get("pads", ())) != [1, 1, 1, 1, 1, 1]
        or list(given.get("dilations", [1, 1, 1])) != [1, 1, 1]
        or given.get("group", 1) != 1
    ):
        return False
    weights = [tensor for tensor in model.graph.initializer if tensor.name == node.input[1]]
    readers = [other for other in model.graph.node if node.input[1] in other.input]
    return (
        len(weights) == len(readers) == 1
        and weights[0].data_type == onnx.TensorProto.FLOAT
        and list(weights[0].dims[1:]) == [1, 3, 3, 3]
    )


def _infer_shapes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """The shape of each value, with 0 for a size that is not fixed."""
    inferred = shape_inference.infer_shapes(model)
    return {
        value.name: tuple(size.dim_value for size in value.type.tensor_type.shape.dim)
        for value in (*inferred.graph.input, *inferred.graph.value_info)
    }


def _cut_cells(
    model: onnx.ModelProto, source: str, target: str, shape: tuple[int, ...]
) -> list[onnx.NodeProto]:
    """Nodes that turn (B, 1, *S) into (B, 8, *S / 2)."""
    batch, depth, height, width = shape[0], *(size // 2 for size in shape[2:])
    sizes = {
        _name(target, "split_sizes"): [batch, depth, 2, height, 2, width, 2],
        _name(target, "joined_sizes"): [batch, 8, depth, height, width],
    }
    model.graph.initializer.extend(
        numpy_helper.from_array(np.array(value, np.int64), name) for name, value in sizes.items()
    )
    split, turned, cells = (_name(target, what) for what in ("split", "turned", "cells"))
    by_split, by_joined = sizes
    return [
        helper.make_node("Reshape", [source, by_split], [split]),
        helper.make_node("Transpose", [split], [turned], perm=[0, 2, 4, 6, 1, 3, 5]),
        helper.make_node("Reshape", [turned, by_joined], [cells]),
    ]


def _name(value: str, what: str) -> str:
    return f"{value}_{what}"
