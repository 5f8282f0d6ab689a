"""Upper bounds of the memory and arithmetic of a graph, from the shape of every value.

Shapes are worked out from the size of the input alone, operation by operation.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from bedside.bundle.graph_rules import MAX_ELEMENTS, PRODUCTS, RULES, Result
from bedside.bundle.graph_step import Shape, Step, Values
from bedside.bundle.wire import Graph, Node
from bedside.errors import BundleError

# The largest networks that can be trained here (`teacher`, 512 x 512 pixels or 160 voxels a side)
# hold 130 million elements at one time, go through 740 million and take 21 * 10**9 multiply-adds.
MAX_LIVE_ELEMENTS = 256 * 2**20
"""Elements of all values that are needed at one time."""

MAX_TOUCHED = 4 * 10**9
"""Elements of all values together, and of what pooling and sorting look at."""

MAX_MACS = 2 * 10**11
"""Multiply-adds of all convolutions and products together."""

_MOST_NODES = 20_000


@dataclass(frozen=True)
class GraphCost:
    """Upper bounds for running a graph once.

    Attributes:
        largest: Elements of its largest value.
        live: Most elements of all values that are needed at one time.
        touched: Elements of all values together, and of what is looked at to compute them.
        macs: Multiply-adds of convolutions and products.
    """

    largest: int
    live: int
    touched: int
    macs: int


def measure_graph(graph: Graph, inputs: Mapping[str, Shape]) -> tuple[GraphCost, dict[str, Shape]]:
    """Return the cost of a graph; refuse one that is too expensive.

    Args:
        graph: The graph.
        inputs: Shape of each input.

    Returns:
        The cost, and the shape of every value by name.

    Raises:
        BundleError: If it takes more than any network that can be trained here, if a shape
            cannot be worked out, or if it has an operation that a network does not need.
    """
    if len(graph.nodes) > _MOST_NODES:
        raise BundleError(f"it has {len(graph.nodes)} operations; at most {_MOST_NODES}")
    values = Values(inputs, graph.tensors)
    last = {name: place for place, node in enumerate(graph.nodes) for name in node.inputs}
    largest = live = most_live = touched = macs = 0
    for place, node in enumerate(graph.nodes):
        shapes, effort = _apply(node, values)
        sizes = [math.prod(shape) for shape in shapes]
        largest = max(largest, *sizes)
        live += sum(sizes)
        most_live = max(most_live, live)
        touched += sum(sizes) + (0 if node.operation in PRODUCTS else effort)
        macs += effort if node.operation in PRODUCTS else 0
        _check(f"its operation {node.operation} gives", max(sizes), MAX_ELEMENTS, "elements")
        _check("it holds", live, MAX_LIVE_ELEMENTS, "elements at one time")
        _check("it goes through", touched, MAX_TOUCHED, "elements")
        _check("it takes", macs, MAX_MACS, "multiply-adds")
        values.add(node, shapes)
        done = {name for name in node.inputs if last[name] == place}
        live -= sum(math.prod(values.shapes[name]) for name in done & values.computed)
    return GraphCost(largest, most_live, touched, macs), values.shapes


def _check(what: str, seen: int, most: int, unit: str) -> None:
    if seen > most:
        raise BundleError(f"{what} {seen:,} {unit}; at most {most:,} are run")


def _apply(node: Node, values: Values) -> Result:
    """Shapes of what a node gives, and its work beside writing them."""
    if node.domain not in ("", "ai.onnx"):
        raise BundleError(f"it has a custom operation of {node.domain!r}")
    rule = RULES.get(node.operation)
    if rule is None:
        raise BundleError(f"its operation {node.operation!r} is not one that a bundle may hold")
    for name in node.inputs:
        if name and name not in values.shapes:
            raise BundleError(f"its operation {node.operation} takes {name!r}, which nothing gives")
    if not node.outputs or not all(node.outputs):
        raise BundleError(f"its operation {node.operation} gives nothing")
    try:
        shapes, effort = rule(Step(node, values))
    except (IndexError, ValueError, ZeroDivisionError, OverflowError) as error:
        if isinstance(error, BundleError):
            raise
        raise BundleError(f"its operation {node.operation} does not fit what it takes") from error
    if len(shapes) != len(node.outputs):
        raise BundleError(f"its operation {node.operation} gives {len(node.outputs)} values")
    return shapes, effort
