"""Arithmetic, memory traffic and time of a graph's operations; needs no torch and no onnx."""

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
import openvino as ov

from bedside.runtime.openvino import compile_settings

# What a network's time is spent on; all else is moving and adding, counted by its elements.
_PRODUCTS = ("Convolution", "GroupConvolution", "MatMul")
_FREE = ("Parameter", "Result", "Constant", "Convert", "Reshape", "Unsqueeze", "Squeeze")
_PROFILED_RUNS = 20


@dataclass(frozen=True)
class Operation:
    """One operation of a graph.

    Attributes:
        name: Its name in the graph.
        kind: Such as "Convolution", "depthwise", "MatMul", "Softmax".
        flops: Additions and multiplications; a product and its sum are two.
        elements: Numbers read and written, weights included.
        weights: Numbers among them that are the network's own.
    """

    name: str
    kind: str
    flops: int
    elements: int
    weights: int = 0


@dataclass(frozen=True)
class Spent:
    """How long one operation takes as it runs.

    Attributes:
        name: Its name; one operation may be several fused.
        kind: As the runtime calls it.
        kernel: The code that does it, such as "brgconv_avx512_f32".
        milliseconds: Median over some runs.
    """

    name: str
    kind: str
    kernel: str
    milliseconds: float


def count_operations(graph: bytes) -> tuple[Operation, ...]:
    """Count what each operation of a graph computes and moves, from shapes alone.

    Args:
        graph: Serialized ONNX of fixed size.

    Returns:
        Operations in the order they run; those that neither compute nor move are left out.
    """
    counted = []
    for op in ov.Core().read_model(graph).get_ordered_ops():
        kind = op.get_type_name()
        if kind in _FREE or not op.outputs():
            continue
        sources = [_size(value.get_source_output()) for value in op.inputs()]
        weights = sources[1] if "Convolution" in kind else 0
        written = sum(_size(value) for value in op.outputs())
        if kind in _PRODUCTS:
            flops = 2 * _size(op.output(0)) * _depth(op, kind)
        else:
            flops = written
            # Shapes and other small numbers beside the data are not read again and again.
            sources = [size for size in sources if size > 16]
        elements = written + sum(sources)
        name = op.get_friendly_name()
        counted.append(Operation(name, _kind(op, kind), flops, elements, weights))
    return tuple(counted)


def profile(
    graph: bytes, tensor: np.ndarray, *, precision: str = "f32", threads: int = 1
) -> tuple[Spent, ...]:
    """Time each operation of a graph in OpenVINO, by the runtime's own clock.

    Args:
        graph: Serialized ONNX.
        tensor: An input, (1, C, *S) float32.
        precision: "f32", "bf16", or "int8" for a graph that is quantized.
        threads: Threads of the runtime.

    Returns:
        What took time, the longest first.
    """
    core = ov.Core()
    settings = compile_settings(precision=precision, threads=threads) | {"PERF_COUNT": True}
    request = core.compile_model(core.read_model(graph), "CPU", settings).create_infer_request()
    request.set_input_tensor(0, ov.Tensor(np.ascontiguousarray(tensor)))
    spans: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for run in range(_PROFILED_RUNS + 2):
        request.infer()
        if run < 2:
            continue
        for entry in request.profiling_info:
            spent = entry.real_time.total_seconds() * 1e3
            if spent:
                spans[entry.node_name, entry.node_type, entry.exec_type].append(spent)
    found = [Spent(*key, float(np.median(values))) for key, values in spans.items()]
    return tuple(sorted(found, key=lambda each: -each.milliseconds))


def _kind(op: Any, kind: str) -> str:
    if kind != "GroupConvolution":
        return str(kind)
    # (groups, out, in, *kernel): one channel in and one out is depthwise.
    shape = list(op.input(1).get_shape())
    return "depthwise" if shape[1:3] == [1, 1] else "Convolution"


def _depth(op: Any, kind: str) -> int:
    """Count the products that are summed up into one number of the result."""
    shape = [int(size) for size in op.input(1).get_shape()]
    if kind == "Convolution":
        return math.prod(shape[1:])
    if kind == "GroupConvolution":
        return math.prod(shape[2:])
    return shape[-1] if op.get_attributes().get("transpose_b") else shape[-2]


def _size(value: Any) -> int:
    return math.prod(int(size) for size in value.get_shape())
