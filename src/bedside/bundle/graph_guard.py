"""Checks an ONNX graph from its bytes before any runtime sees it.

A file of 163 bytes can declare a tensor of 20 GB, or name a file on this machine as its
weights; one of a kilobyte can enlarge an image until memory is full. Runtimes trust all of it,
so graphs are read here first, and what they would take is worked out.
"""

import math
from dataclasses import dataclass

from bedside.bundle.graph_cost import GraphCost, measure_graph
from bedside.bundle.graph_rules import MAX_ELEMENTS, RULES
from bedside.bundle.graph_step import Shape
from bedside.bundle.wire import Graph, Shapes, read_graph
from bedside.errors import BundleError

ALLOWED_OPERATIONS = frozenset(RULES)


@dataclass(frozen=True)
class GraphSignature:
    """Inputs, outputs and cost of a graph.

    Attributes:
        inputs: Shape of each input, by name; None for a dimension left open.
        outputs: Shape of each output, by name.
        cost: What it takes to run it once.
    """

    inputs: Shapes
    outputs: Shapes
    cost: GraphCost


def check_graph(graph: bytes, *, where: str, input_shape: Shape | None = None) -> GraphSignature:
    """Refuse a graph that reaches outside its bytes or takes more than a network does.

    Args:
        graph: A serialized ONNX model.
        where: File and member, for errors.
        input_shape: What it will be run on, for dimensions that it leaves open. Without it,
            only the first may be open, and is taken as 1.

    Returns:
        Names and shapes of inputs and outputs, and the cost.

    Raises:
        BundleError: If it is not ONNX, refers to external data, declares tensors larger
            than its own bytes, has operations that a network's inference does not need, or
            takes more memory or arithmetic than any network that can be trained here.
    """
    try:
        read = read_graph(graph)
        _check_declared(read)
        shapes = {name: _close(name, shape, input_shape) for name, shape in read.inputs.items()}
        cost, found = measure_graph(read, shapes)
        _check_outputs(read.outputs, found)
        return GraphSignature(read.inputs, read.outputs, cost)
    except (BundleError, UnicodeDecodeError) as error:
        raise BundleError(
            f"{where} is refused: {error}. Build the bundle again from its model."
        ) from error


def _check_declared(graph: Graph) -> None:
    """Refuse values that declare more elements than any network has."""
    for name, shape in (
        *graph.inputs.items(), *graph.outputs.items(), *graph.declared.items()
    ):  # fmt: skip
        elements = math.prod(size for size in shape if size is not None)
        if elements > MAX_ELEMENTS:
            raise BundleError(
                f"its value {name!r} declares {elements} elements; at most {MAX_ELEMENTS}"
            )


def _close(name: str, shape: tuple[int | None, ...], input_shape: Shape | None) -> Shape:
    """Fill in the dimensions that an input leaves open."""
    if input_shape is None:
        input_shape = (1, *(-1 for _ in shape[1:]))
    if len(shape) != len(input_shape):
        raise BundleError(f"its input {name!r} has {len(shape)} dimensions")
    closed = tuple(
        given if size is None else size for size, given in zip(shape, input_shape, strict=True)
    )
    if -1 in closed:
        raise BundleError(f"its input {name!r} leaves its size open")
    return closed


def _check_outputs(outputs: Shapes, found: dict[str, Shape]) -> None:
    """Check that the outputs have their declared shapes."""
    for name, shape in outputs.items():
        if name not in found:
            raise BundleError(f"its output {name!r} is given by nothing")
        # An output may be declared without a shape.
        if shape and not _agrees(shape, found[name]):
            raise BundleError(f"its output {name!r} declares {shape} and has {found[name]}")


def _agrees(declared: tuple[int | None, ...], seen: Shape) -> bool:
    """Whether a shape is the declared one, but for dimensions left open."""
    return len(declared) == len(seen) and all(
        size in (None, own) for size, own in zip(declared, seen, strict=True)
    )
