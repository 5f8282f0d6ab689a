"""Ceilings of this machine: arithmetic in each precision, and memory bandwidth."""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import openvino as ov
from openvino import opset13 as op

from bedside.runtime.openvino import compile_settings

# 2 x 768 x 768 x 4 bytes fit into a core's caches, and the product keeps its units busy.
_SIDE = 768
# 64 MiB in and 64 MiB out: more than caches hold.
_ELEMENTS = 16 * 2**20
_SECONDS = 0.4
BYTES = {"f32": 4, "bf16": 2, "f16": 2, "int8": 1}
"""Bytes of a number in each precision."""


@dataclass(frozen=True)
class Ceilings:
    """The most that was measured.

    Attributes:
        threads: Threads that it was measured with.
        gflops: 1e9 operations a second of a matrix product, by precision.
        memory_gbs: 1e9 bytes a second, read and written.
    """

    threads: int
    gflops: dict[str, float]
    memory_gbs: float

    def raised_to(self, other: "Ceilings") -> "Ceilings":
        """The higher of two measurements of each ceiling."""
        gflops = {name: max(value, other.gflops[name]) for name, value in self.gflops.items()}
        return Ceilings(self.threads, gflops, max(self.memory_gbs, other.memory_gbs))

    def shortest_ms(self, flops: int, elements: int, precision: str) -> float:
        """Least time for the arithmetic and the memory traffic.

        Example:
            >>> Ceilings(1, {"f32": 100.0}, 10.0).shortest_ms(2 * 10**8, 10**6, "f32")
            2.0
        """
        computing = flops / self.gflops[precision] / 1e6
        moving = elements * BYTES[precision] / self.memory_gbs / 1e6
        return max(computing, moving)


def measure_ceilings(precisions: tuple[str, ...], *, threads: int) -> Ceilings:
    """Measure for about a second and a half; the best of many short runs counts.

    Args:
        precisions: Of "f32", "bf16" and "int8".
        threads: Threads to measure with.
    """
    gflops = {
        precision: round(2 * _SIDE**3 / _best_s(_product(precision), precision, threads) / 1e9, 1)
        for precision in precisions
    }
    moved = 2 * 4 * _ELEMENTS
    memory = round(moved / _best_s(_copy(), "f32", threads) / 1e9, 2)
    return Ceilings(threads, gflops, memory)


def _product(precision: str) -> Any:
    """One matrix product, quantized where it is to be in 8 bits."""
    image = op.parameter([_SIDE, _SIDE], np.float32)
    weights = np.random.default_rng(0).random((_SIDE, _SIDE), dtype=np.float32)
    left, right = image, op.constant(weights)
    if precision == "int8":
        left, right = _levels(left, 0.0, 256), _levels(right, -1.0, 255)
    return ov.Model([op.matmul(left, right, False, False)], [image])


def _levels(value: Any, low: float, count: int) -> Any:
    ends = [op.constant(np.float32(end)) for end in (low, 1.0, low, 1.0)]
    return op.fake_quantize(value, *ends, count)


def _copy() -> Any:
    """A copy: memory traffic with hardly any arithmetic."""
    image = op.parameter([_ELEMENTS], np.float32)
    return ov.Model([op.relu(image)], [image])


def _best_s(model: Any, precision: str, threads: int) -> float:
    settings = compile_settings(precision=precision, threads=threads)
    request = ov.Core().compile_model(model, "CPU", settings).create_infer_request()
    shape = [int(size) for size in model.input(0).get_shape()]
    image = np.random.default_rng(1).random(shape, dtype=np.float32)
    request.set_input_tensor(0, ov.Tensor(image))
    spans: list[float] = []
    end = time.perf_counter() + _SECONDS
    while len(spans) < 3 or time.perf_counter() < end:
        begin = time.perf_counter()
        request.infer()
        spans.append(time.perf_counter() - begin)
    return min(spans)
