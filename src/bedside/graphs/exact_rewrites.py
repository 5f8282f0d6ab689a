"""Exact equivalents of operations that some chips lack: values move, none is computed anew.

Each takes a node and returns the nodes for it, or None where it does not apply.
"""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference

from bedside.graphs.edit import set_nodes

Shape = tuple[int, ...]


@dataclass(frozen=True)
class GraphValues:
    """Shapes and constants of a graph, and the constants that a rewrite adds.

    Attributes:
        shapes: Of every value and initializer, with 0 for a size that is not fixed.
        constants: Initializers by name.
        added: New initializers.
    """

    shapes: Mapping[str, Shape]
    constants: Mapping[str, np.ndarray]
    added: list[onnx.TensorProto] = field(default_factory=list)

    @classmethod
    def of(cls, model: onnx.ModelProto) -> "GraphValues":
        """Infer the shapes of a graph."""
        graph = shape_inference.infer_shapes(model).graph
        shapes = {
            value.name: tuple(size.dim_value for size in value.type.tensor_type.shape.dim)
            for value in (*graph.input, *graph.value_info, *graph.output)
        }
        constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        shapes.update({name: array.shape for name, array in constants.items()})
        return cls(shapes, constants)

    def constant(self, name: str, value: np.ndarray) -> str:
        """Add an initializer; returns its name."""
        self.added.append(numpy_helper.from_array(value, name))
        return name

    def sizes(self, name: str, shape: Sequence[int]) -> str:
        """Add the sizes of a Reshape; returns their name."""
        return self.constant(name, np.array(shape, np.int64))


Rewriter = Callable[[onnx.NodeProto, GraphValues], list[onnx.NodeProto] | None]


def rewrite_nodes(model: onnx.ModelProto, nodes: Sequence[str], rewriter: Rewriter) -> int:
    """Rewrite nodes in place.

    Args:
        model: The graph.
        nodes: First output of each node to rewrite.
        rewriter: What rewrites one.

    Returns:
        Number of nodes that were rewritten.
    """
    values, wanted, count = GraphValues.of(model), set(nodes), 0
    kept: list[onnx.NodeProto] = []
    for node in model.graph.node:
        made = rewriter(node, values) if node.output[0] in wanted else None
        count += made is not None
        kept.extend([node] if made is None else made)
    set_nodes(model, kept)
    model.graph.initializer.extend(values.added)
    return count


def attributes_of(node: onnx.NodeProto) -> dict[str, object]:
    """Attributes of a node by name, strings as text."""
    found = {each.name: helper.get_attribute_value(each) for each in node.attribute}
    return {
        name: value.decode() if isinstance(value, bytes) else value for name, value in found.items()
    }


def fold_batch(node: onnx.NodeProto, values: GraphValues) -> list[onnx.NodeProto] | None:
    """A Softmax over the last axis with all other axes folded into one, behind a batch of 1."""
    shape = values.shapes.get(node.input[0], ())
    if len(shape) < 2 or not all(shape):
        return None
    if attributes_of(node).get("axis", -1) not in (-1, len(shape) - 1):
        return None
    source, target = node.input[0], node.output[0]
    folded, done = f"{target}_folded", f"{target}_done"
    inner = values.sizes(f"{target}_inner", (1, math.prod(shape[:-1]), shape[-1]))
    return [
        helper.make_node("Reshape", [source, inner], [folded]),
        helper.make_node(node.op_type, [folded], [done], name=node.name, axis=-1),
        helper.make_node("Reshape", [done, values.sizes(f"{target}_outer", shape)], [target]),
    ]


def to_reshape(node: onnx.NodeProto, values: GraphValues) -> list[onnx.NodeProto] | None:
    """An Unsqueeze, Squeeze or Flatten as a Reshape to the same sizes."""
    target = node.output[0]
    shape = values.shapes.get(target, ())
    if not shape or not all(shape):
        return None
    inputs = [node.input[0], values.sizes(f"{target}_sizes", shape)]
    return [helper.make_node("Reshape", inputs, [target], name=node.name)]


def to_slices(node: onnx.NodeProto, values: GraphValues) -> list[onnx.NodeProto] | None:
    """A Split as one Slice for each part."""
    shapes = [values.shapes.get(name, ()) for name in node.output]
    if not all(shape and all(shape) for shape in shapes):
        return None
    axis = int(attributes_of(node).get("axis", 0))  # type: ignore[call-overload]
    axis %= len(shapes[0])
    made, begin = [], 0
    for name, shape in zip(node.output, shapes, strict=True):
        end = begin + shape[axis]
        places = [
            values.sizes(f"{name}_{what}", [place])
            for what, place in (("begin", begin), ("end", end), ("axis", axis))
        ]
        made.append(helper.make_node("Slice", [node.input[0], *places], [name]))
        begin = end
    return made


def to_transposed_convolution(
    node: onnx.NodeProto, values: GraphValues
) -> list[onnx.NodeProto] | None:
    """A DepthToSpace as a transposed convolution whose weights are 0 and 1.

    Every result is one value times 1, plus zeros, so it is that value.
    """
    shape, given = values.shapes.get(node.input[0], ()), attributes_of(node)
    if len(shape) != 4 or not all(shape):
        return None
    block = int(given["blocksize"])  # type: ignore[call-overload]
    outer = shape[1] // block**2
    weight = np.zeros((shape[1], outer, block, block), np.float32)
    for channel, row, column in itertools.product(range(outer), range(block), range(block)):
        if given.get("mode", "DCR") == "CRD":
            place = (channel * block + row) * block + column
        else:
            place = (row * block + column) * outer + channel
        weight[place, channel, row, column] = 1
    target = node.output[0]
    name = values.constant(f"{target}_places", weight)
    inputs, sides = [node.input[0], name], [block, block]
    return [helper.make_node("ConvTranspose", inputs, [target], kernel_shape=sides, strides=sides)]


def split_transpose(node: onnx.NodeProto, values: GraphValues) -> list[onnx.NodeProto] | None:
    """A Transpose of many axes as swaps of neighbours, each over four axes at most."""
    shape = values.shapes.get(node.input[0], ())
    order = attributes_of(node).get("perm")
    if not shape or not all(shape) or not isinstance(order, list):
        return None
    source, target = node.input[0], node.output[0]
    made: list[onnx.NodeProto] = []
    for number, (sizes, swapped) in enumerate(list_swaps(shape, order)):
        folded, turned = f"{target}_folded{number}", f"{target}_turned{number}"
        inputs = [source, values.sizes(f"{folded}_sizes", sizes)]
        made.append(helper.make_node("Reshape", inputs, [folded]))
        made.append(helper.make_node("Transpose", [folded], [turned], perm=swapped))
        source = turned
    last = values.sizes(f"{target}_sizes", [shape[axis] for axis in order])
    return [*made, helper.make_node("Reshape", [source, last], [target])]


def list_swaps(shape: Sequence[int], order: Sequence[int]) -> list[tuple[Shape, Shape]]:
    """Swaps of two neighbouring blocks of axes that make up a transpose.

    Args:
        shape: Sizes before it.
        order: Axes of the result, as places in `shape`.

    Returns:
        Of each swap, four sizes that the values are shaped to, and the order (0, 2, 1, 3).

    Example:
        >>> list_swaps((2, 3, 4), (2, 0, 1))
        [((1, 6, 4, 1), (0, 2, 1, 3))]
    """
    axes = list(range(len(shape)))
    swaps: list[tuple[Shape, Shape]] = []
    for place in range(len(order)):
        at = axes.index(order[place])
        if at == place:
            continue
        # Axes that follow each other in the result move together.
        end = at + 1
        while end < len(axes) and order[place + end - at : place + end - at + 1] == [axes[end]]:
            end += 1
        before, skipped, moved, after = axes[:place], axes[place:at], axes[at:end], axes[end:]
        sizes = tuple(
            math.prod(shape[axis] for axis in block) for block in (before, skipped, moved, after)
        )
        swaps.append((sizes, (0, 2, 1, 3)))
        axes = [*before, *moved, *skipped, *after]
    return swaps


REWRITERS: Mapping[str, tuple[Rewriter, ...]] = {
    "DepthToSpace": (to_transposed_convolution,),
    "Flatten": (to_reshape,),
    "Softmax": (fold_batch,),
    "Split": (to_slices,),
    "Squeeze": (to_reshape,),
    "Transpose": (split_transpose,),
    "Unsqueeze": (to_reshape,),
}
"""Operation -> what rewrites it exactly, in order of preference."""
