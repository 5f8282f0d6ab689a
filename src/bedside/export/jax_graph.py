"""An ONNX graph as a function of JAX, for XLA's compilers: TPUs, GPUs, and CPUs.

A small second implementation of the operations that networks of ours consist of. Every shape is
fixed, and what depends on constants alone is computed by numpy before JAX sees it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnx
from jax import lax
from onnx import helper, numpy_helper

from bedside.errors import ExportError

Value = Any
"""A constant, which is an array of numpy, or a value of JAX."""


@dataclass(frozen=True)
class _Call:
    """One operation of the graph, with its inputs.

    Attributes:
        operation: Its name in ONNX.
        inputs: Values; None for one that is left out.
        attributes: Its settings.
        outputs: Number of results.
        in_bf16: Whether products take their factors in bf16.
    """

    operation: str
    inputs: Sequence[Value]
    attributes: dict[str, Any]
    outputs: int
    in_bf16: bool

    def integers(self, place: int) -> list[int]:
        """An input that has to be known before the network runs, such as a shape.

        Raises:
            ExportError: If it depends on the image.
        """
        value = self.inputs[place]
        if not isinstance(value, np.ndarray):
            raise self.refuse(f"input {place + 1} depends on the image")
        return [int(number) for number in value.ravel()]

    def refuse(self, why: str) -> ExportError:
        """The error for a form of the operation that JAX's function does not have."""
        return ExportError(f'the operation "{self.operation}" is not converted to JAX: {why}.')

    def factors(self) -> tuple[Value, Value]:
        """The two factors of a product, in the precision that it is computed in."""
        left, right = self.inputs[:2]
        if not self.in_bf16:
            return jnp.asarray(left), jnp.asarray(right)
        return jnp.asarray(left, jnp.bfloat16), jnp.asarray(right, jnp.bfloat16)


def make_function(content: bytes, *, precision: str = "f32") -> Callable[[Value], Value]:
    """A function of JAX that computes what an ONNX graph computes.

    Args:
        content: Serialized ONNX with one input and one output, of fixed shapes.
        precision: "f32", or "bf16": products take factors in bf16 and add in f32, as a TPU's
            matrix unit does; all else is in f32.

    Returns:
        A function from (1, C, *S) float32 to (1, K, *s) float32, which `jax.jit` can compile.

    Raises:
        ExportError: If the graph has an operation that is not converted. The function raises it
            too, when it is traced.

    Source:
        Semantics of the operations: ONNX operator schemas, opset 20.
    """
    graph = onnx.load_from_string(content).graph
    unknown = sorted({node.op_type for node in graph.node} - set(OPERATIONS))
    if unknown:
        raise ExportError(f"these operations are not converted to JAX: {', '.join(unknown)}.")
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}

    def network(image: Value) -> Value:
        values: dict[str, Value] = {**constants, graph.input[0].name: image}
        for node in graph.node:
            call = _Call(
                node.op_type,
                [values[name] if name else None for name in node.input],
                {each.name: helper.get_attribute_value(each) for each in node.attribute},
                len(node.output),
                precision == "bf16",
            )
            values.update(zip(node.output, OPERATIONS[node.op_type](call), strict=True))
        return values[graph.output[0].name]

    return network


def _elementwise(function: Callable[..., Any]) -> Callable[[_Call], list[Value]]:
    """An operation on values that are stretched to each other; on constants it is numpy's."""

    def apply(call: _Call) -> list[Value]:
        known = all(isinstance(value, np.ndarray) for value in call.inputs)
        result = function(*call.inputs)
        return [np.asarray(result) if known else result]

    return apply


def _cast(call: _Call) -> list[Value]:
    dtype = helper.tensor_dtype_to_np_dtype(call.attributes["to"])
    return [call.inputs[0].astype(dtype)]


def _constant(call: _Call) -> list[Value]:
    return [numpy_helper.to_array(call.attributes["value"])]


def _conv(call: _Call) -> list[Value]:
    image, weight = call.factors()
    axes = image.ndim - 2
    if call.attributes.get("auto_pad", b"NOTSET") != b"NOTSET":
        raise call.refuse("auto_pad is not a list of pads")
    pads = call.attributes.get("pads", [0] * (2 * axes))
    letters = "DHW"[-axes:]
    result = lax.conv_general_dilated(
        image,
        weight,
        window_strides=call.attributes.get("strides", [1] * axes),
        padding=list(zip(pads[:axes], pads[axes:], strict=True)),
        rhs_dilation=call.attributes.get("dilations", [1] * axes),
        dimension_numbers=(f"NC{letters}", f"OI{letters}", f"NC{letters}"),
        feature_group_count=call.attributes.get("group", 1),
        precision=lax.Precision.HIGHEST,
        preferred_element_type=jnp.float32,
    )
    if len(call.inputs) > 2:
        result = result + call.inputs[2].reshape(-1, *(1,) * axes)
    return [result]


def _matmul(call: _Call) -> list[Value]:
    left, right = call.factors()
    return [
        jnp.matmul(left, right, precision=lax.Precision.HIGHEST, preferred_element_type=jnp.float32)
    ]


def _softmax(call: _Call) -> list[Value]:
    return [jax.nn.softmax(call.inputs[0], axis=call.attributes.get("axis", -1))]


def _reduce_mean(call: _Call) -> list[Value]:
    axes = tuple(call.integers(1)) if len(call.inputs) > 1 else None
    if axes is None and call.attributes.get("noop_with_empty_axes", 0):
        return [call.inputs[0]]
    kept = bool(call.attributes.get("keepdims", 1))
    return [jnp.mean(call.inputs[0], axis=axes, keepdims=kept)]


def _reshape(call: _Call) -> list[Value]:
    value, shape = call.inputs[0], call.integers(1)
    if not call.attributes.get("allowzero", 0):
        shape = [value.shape[axis] if size == 0 else size for axis, size in enumerate(shape)]
    return [value.reshape(shape)]


def _transpose(call: _Call) -> list[Value]:
    return [call.inputs[0].transpose(call.attributes["perm"])]


def _split(call: _Call) -> list[Value]:
    value, axis = call.inputs[0], call.attributes.get("axis", 0)
    if len(call.inputs) > 1:
        sizes = call.integers(1)
    else:
        piece = -(-value.shape[axis] // call.outputs)
        sizes = [piece] * (call.outputs - 1) + [value.shape[axis] - piece * (call.outputs - 1)]
    ends = [sum(sizes[: index + 1]) for index in range(len(sizes))]
    return [
        lax.slice_in_dim(value, end - size, end, axis=axis)
        for size, end in zip(sizes, ends, strict=True)
    ]


def _unsqueeze(call: _Call) -> list[Value]:
    value, axes = call.inputs[0], tuple(call.integers(1))
    return [
        np.expand_dims(value, axes)
        if isinstance(value, np.ndarray)
        else jnp.expand_dims(value, axes)
    ]


def _concat(call: _Call) -> list[Value]:
    return [jnp.concatenate(list(call.inputs), axis=call.attributes["axis"])]


def _slice(call: _Call) -> list[Value]:
    value = call.inputs[0]
    starts, ends = call.integers(1), call.integers(2)
    axes = call.integers(3) if len(call.inputs) > 3 else list(range(len(starts)))
    steps = call.integers(4) if len(call.inputs) > 4 else [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        first, last, stride = slice(start, end, step).indices(value.shape[axis])
        if stride < 1:
            raise call.refuse("a step is negative")
        value = lax.slice_in_dim(value, first, max(first, last), stride, axis)
    return [value]


def _resize(call: _Call) -> list[Value]:
    """Nearest-neighbour upsampling by whole factors: each value is repeated."""
    form = [
        call.attributes.get(name, default)
        for name, default in (
            ("mode", b"nearest"),
            ("coordinate_transformation_mode", b"half_pixel"),
            ("nearest_mode", b"round_prefer_floor"),
        )
    ]
    if form != [b"nearest", b"asymmetric", b"floor"] or len(call.inputs) > 3:
        raise call.refuse("it is not upsampling by whole factors to the nearest value")
    value = call.inputs[0]
    for axis, scale in enumerate(call.inputs[2]):
        if scale != int(scale) or scale < 1:
            raise call.refuse(f"a factor is {scale:g}")
        if scale > 1:
            value = _repeat(value, axis, int(scale))
    return [value]


def _repeat(value: Value, axis: int, count: int) -> Value:
    """Repeat each value along an axis by a broadcast: `jnp.repeat` would gather."""
    shape = value.shape
    wide = jnp.broadcast_to(
        jnp.expand_dims(value, axis + 1), (*shape[: axis + 1], count, *shape[axis + 1 :])
    )
    return wide.reshape(*shape[:axis], shape[axis] * count, *shape[axis + 1 :])


def _depth_to_space(call: _Call) -> list[Value]:
    value, block = call.inputs[0], call.attributes["blocksize"]
    batch, channels, rows, columns = value.shape
    left = channels // block**2
    if call.attributes.get("mode", b"DCR") == b"CRD":
        parts = value.reshape(batch, left, block, block, rows, columns)
        parts = parts.transpose(0, 1, 4, 2, 5, 3)
    else:
        parts = value.reshape(batch, block, block, left, rows, columns)
        parts = parts.transpose(0, 3, 4, 1, 5, 2)
    return [parts.reshape(batch, left, rows * block, columns * block)]


def _gather(call: _Call) -> list[Value]:
    value, indices = call.inputs[:2]
    axis = call.attributes.get("axis", 0)
    if isinstance(value, np.ndarray) and isinstance(indices, np.ndarray):
        return [np.take(value, indices, axis=axis)]
    return [jnp.take(jnp.asarray(value), indices, axis=axis)]


def _top_k(call: _Call) -> list[Value]:
    value = call.inputs[0]
    if call.attributes.get("axis", -1) not in (-1, value.ndim - 1):
        raise call.refuse("it is not along the last axis")
    if not call.attributes.get("largest", 1):
        raise call.refuse("it takes the smallest")
    values, indices = lax.top_k(value, call.integers(1)[0])
    return [values, indices.astype(jnp.int32)]


OPERATIONS: dict[str, Callable[[_Call], list[Value]]] = {
    "Add": _elementwise(lambda a, b: a + b),
    "Cast": _cast,
    "Concat": _concat,
    "Constant": _constant,
    "Conv": _conv,
    "DepthToSpace": _depth_to_space,
    "Div": _elementwise(lambda a, b: a // b if _is_whole(a, b) else a / b),
    "Gather": _gather,
    "Identity": _elementwise(lambda a: a),
    "MatMul": _matmul,
    "Mul": _elementwise(lambda a, b: a * b),
    "ReduceMean": _reduce_mean,
    "Relu": _elementwise(jax.nn.relu),
    "Reshape": _reshape,
    "Resize": _resize,
    "Slice": _slice,
    "Softmax": _softmax,
    "Split": _split,
    "Sub": _elementwise(lambda a, b: a - b),
    "TopK": _top_k,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
"""How each operation is computed in JAX."""


def _is_whole(*values: Value) -> bool:
    """Whether all values are integers, which ONNX divides as C does; none of ours is negative."""
    return all(np.issubdtype(value.dtype, np.integer) for value in values)
