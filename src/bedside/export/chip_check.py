"""Which nodes of a graph a chip runs, by its profile: what falls back to the CPU, and why."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx

from bedside.chips import Chip, Limits
from bedside.graphs.exact_rewrites import GraphValues, attributes_of

_CONVOLUTIONS = ("Conv", "ConvTranspose")
_QUANTIZED = ("QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True)
class Finding:
    """A node that a chip does not run, or that nothing is known of.

    Attributes:
        node: Its name, or that of its first result.
        operation: Such as "Softmax".
        status: Whether it falls back to the CPU, or nothing is known.
        reason: A phrase.
    """

    node: str
    operation: str
    status: Literal["falls back", "unknown"]
    reason: str


@dataclass(frozen=True)
class Misaligned:
    """A convolution whose output channels do not fill the chip's units.

    Attributes:
        node: Its name.
        channels: Output channels.
        filled: Part of the units that they fill, in (0, 1).
    """

    node: str
    channels: int
    filled: float


def check_graph(model: onnx.ModelProto, chip: Chip) -> tuple[Finding, ...]:
    """Nodes that a chip does not run, in the order of the graph.

    Nodes that depend on weights only are left out, since compilers compute them beforehand.
    """
    values = GraphValues.of(model)
    known = set(values.constants)
    return tuple(
        finding
        for node in _running(model, known)
        if (finding := _check_node(node, chip, values, known)) is not None
    )


def count_running(model: onnx.ModelProto) -> int:
    """Number of nodes that do not depend on weights only."""
    return sum(1 for _ in _running(model, {tensor.name for tensor in model.graph.initializer}))


def list_misaligned(model: onnx.ModelProto, multiple: int | None) -> tuple[Misaligned, ...]:
    """Convolutions whose output channels are no multiple; none if the multiple is unknown."""
    if not multiple:
        return ()
    values = GraphValues.of(model)
    found = []
    for node in _running(model, set(values.constants)):
        shape = values.shapes.get(node.output[0], ())
        if node.op_type == "Conv" and len(shape) > 1 and shape[1] % multiple:
            full = -(-shape[1] // multiple) * multiple
            found.append(Misaligned(name_of(node), shape[1], round(shape[1] / full, 4)))
    return tuple(found)


def name_of(node: onnx.NodeProto) -> str:
    """Name of a node: of its weights, if it has any, for a graph may name nothing else."""
    if node.op_type in _CONVOLUTIONS:
        return str(node.input[1]).removesuffix(".weight")
    return str(node.name or node.output[0])


def _running(model: onnx.ModelProto, known: set[str]) -> Iterator[onnx.NodeProto]:
    """Nodes that depend on the input; results of the others are added to `known`."""
    for node in model.graph.node:
        if node.op_type == "Constant" or all(name in known or not name for name in node.input):
            known.update(node.output)
        else:
            yield node


def _check_node(
    node: onnx.NodeProto, chip: Chip, values: GraphValues, known: set[str]
) -> Finding | None:
    listed = chip.operations.get(node.op_type)
    if listed is None:
        absent = f"not in the list of operations ({chip.source_of(node.op_type).version})"
        status: Literal["falls back", "unknown"] = "falls back" if chip.complete else "unknown"
        return Finding(name_of(node), node.op_type, status, absent)
    shapes = [values.shapes.get(name, ()) for name in (node.input[0], node.output[0])]
    broken = _find_rank_fault(chip, shapes)
    for check in _CHECKS:
        broken = broken or check(node, listed.limits, values)
    broken = broken or _find_computed(node, listed.limits, known)
    return Finding(name_of(node), node.op_type, "falls back", broken) if broken else None


def _find_rank_fault(chip: Chip, shapes: list[tuple[int, ...]]) -> str:
    for shape in shapes:
        if chip.max_rank is not None and len(shape) > chip.max_rank:
            return f"has {len(shape)} axes, {_show(shape)}; at most {chip.max_rank}"
        inner = chip.inner_axes
        if inner is not None and any(size > 1 for size in shape[: max(0, len(shape) - inner)]):
            return f"{_show(shape)}: only the {inner} innermost axes may be larger than 1"
    return ""


def _check_sizes(node: onnx.NodeProto, limits: Limits, values: GraphValues) -> str:
    shape, result = (values.shapes.get(n, ()) for n in (node.input[0], node.output[0]))
    most = max(len(shape), len(result))
    sizes: Mapping[str, tuple[int | None, int]] = {
        "axes": (limits.max_rank, most),
        "images in a batch": (limits.max_batch, shape[0] if len(shape) > 1 else 1),
        "along an axis": (limits.max_axis, max((*shape, *result), default=0)),
        "rows": (limits.max_rows, math.prod(shape[:-1])),
        "elements": (limits.max_elements, math.prod(shape)),
    }
    for what, (allowed, found) in sizes.items():
        if allowed is not None and found > allowed:
            return f"{found} {what}, {_show(shape)}; at most {allowed}"
    return ""


def _check_convolution(node: onnx.NodeProto, limits: Limits, values: GraphValues) -> str:
    if node.op_type not in _CONVOLUTIONS:
        return ""
    axes = len(values.shapes.get(node.input[0], ())) - 2
    if limits.spatial_dims and axes not in limits.spatial_dims:
        return f"convolves over {axes} axes; {_join(limits.spatial_dims)} are there"
    stride = max(_numbers(attributes_of(node).get("strides", [1])))
    if limits.max_stride is not None and stride > limits.max_stride:
        return f"stride {stride}; at most {limits.max_stride}"
    return ""


def _check_resize(node: onnx.NodeProto, limits: Limits, values: GraphValues) -> str:
    given = attributes_of(node)
    choices = {
        "mode": (limits.modes, "nearest" if node.op_type == "Resize" else "DCR"),
        "coordinate_transformation_mode": (limits.transforms, "half_pixel"),
        "nearest_mode": (limits.nearest, "round_prefer_floor"),
    }
    for name, (allowed, default) in choices.items():
        if allowed and str(given.get(name, default)) not in allowed:
            return f"{name} {given.get(name, default)}; one of {_join(allowed)}"
    if node.op_type != "Resize":
        return ""
    shape, result = (values.shapes.get(n, ()) for n in (node.input[0], node.output[0]))
    if not shape or not result:
        return ""
    factors = [new / old for old, new in zip(shape[2:], result[2:], strict=True)]
    if limits.same_factor and len(set(factors)) > 1:
        return f"factors {_join(factors)}; only equal ones"
    if limits.factors and any(factor not in limits.factors for factor in factors):
        return f"factor {factors[0]:g}; one of {_join(limits.factors)}"
    return ""


def _check_reduction(node: onnx.NodeProto, limits: Limits, values: GraphValues) -> str:
    if limits.max_reduced is None or not node.op_type.startswith("Reduce"):
        return ""
    shape = values.shapes.get(node.input[0], ())
    axes = _numbers(attributes_of(node).get("axes", []))
    if len(node.input) > 1:
        axes = [int(axis) for axis in values.constants.get(node.input[1], np.zeros(0))]
    largest = max((shape[axis] for axis in axes), default=0)
    return (
        f"reduces {largest} values; at most {limits.max_reduced}"
        if largest > limits.max_reduced
        else ""
    )


def _check_quantization(node: onnx.NodeProto, limits: Limits, values: GraphValues) -> str:
    if node.op_type not in _QUANTIZED:
        return ""
    zero = values.constants.get(node.input[2]) if len(node.input) > 2 else None
    if zero is None:
        return ""
    if limits.types and zero.dtype.name not in limits.types:
        return f"quantized to {zero.dtype.name}; {_join(limits.types)} is there"
    return "a zero point is not 0" if limits.zero_point and bool(zero.any()) else ""


def _find_computed(node: onnx.NodeProto, limits: Limits, known: set[str]) -> str:
    for place in limits.constant:
        name = node.input[place] if place < len(node.input) else ""
        if name and name not in known:
            return f"input {place} is computed; it must be constant"
    return ""


_CHECKS: tuple[Callable[[onnx.NodeProto, Limits, GraphValues], str], ...] = (
    _check_sizes,
    _check_convolution,
    _check_resize,
    _check_reduction,
    _check_quantization,
)


def _numbers(value: Any) -> list[int]:
    return [int(each) for each in value]


def _join(values: Any) -> str:
    return ", ".join(f"{each:g}" if isinstance(each, float) else str(each) for each in values)


def _show(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
