"""The cost of attention: time and memory of each mechanism over the number of tokens.

Every mechanism has the same width and heads and works on the same maps, alone: 1x1
convolutions in, attention, 1x1 convolution out.
"""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from bedside.benchmarking.memory import peak_memory_mb
from bedside.export.onnx import trace_onnx
from bedside.layers.attention import Attention
from bedside.runtime import open_graph
from bedside.spec import LevelSpec

CHANNELS = 64
# 64 tokens a window, region or pooled grid, in both.
_SIDE = {2: 8, 3: 4}
VARIANTS = {
    "window": ("window", False),
    "window + exchange": ("window", True),
    "overlap": ("overlap", False),
    "routed": ("routed", False),
    "pooled": ("pooled", False),
    "linear": ("linear", False),
    "dense": ("dense", False),
}
"""Name of a row -> mechanism, and whether windows exchange pooled tokens."""

SIDES = {2: (32, 48, 64, 96, 128, 192, 256, 384, 512), 3: (8, 12, 16, 20, 24, 32, 40, 48)}
QUICK_SIDES = {2: (32, 48, 64, 128), 3: (8, 12, 16, 24)}
"""Tokens along each axis, by the number of axes."""

# Sizes that the exponent is fitted over: all within this factor of the most tokens. Smaller
# maps lie in the processor's caches, and growing out of them costs more than growing.
ASYMPTOTIC = 8
_SMALLEST_FIT = 3


@dataclass(frozen=True)
class Caps:
    """What a point may cost, as far as it can be foreseen, before it is left out.

    Attributes:
        memory_mb: Tensors alive at once.
        call_ms: Time of one call.
        turn_ms: Time that calls of one point are repeated for, at least thrice.
    """

    memory_mb: float = 3072.0
    call_ms: float = 10_000.0
    turn_ms: float = 1000.0


@dataclass(frozen=True)
class Point:
    """What one mechanism costs on one map.

    Attributes:
        mechanism: Name of the row.
        axes: Spatial axes.
        side: Tokens along each axis.
        tokens: Tokens of the map.
        threads: Threads of the runtime.
        milliseconds: The shortest of several calls.
        memory_mb: Tensors alive at once, at most.
    """

    mechanism: str
    axes: int
    side: int
    tokens: int
    threads: int
    milliseconds: float
    memory_mb: float


@dataclass(frozen=True)
class Skipped:
    """A point that was left out, and why."""

    mechanism: str
    axes: int
    side: int
    reason: str


@dataclass(frozen=True)
class Costs:
    """All that was measured."""

    points: tuple[Point, ...]
    skipped: tuple[Skipped, ...]


def measure_attention(
    sides: dict[int, Sequence[int]],
    *,
    threads: Sequence[int] = (1, 2),
    caps: Caps | None = None,
    backend: str = "auto",
    on_point: Callable[[str], None] = lambda text: None,
) -> Costs:
    """Measure every mechanism on maps of growing size.

    Args:
        sides: Tokens along each axis, rising, by the number of axes.
        threads: Numbers of threads to measure with.
        caps: What a point may cost.
        backend: Runtime that the time is taken in.
        on_point: Called with a line for each point.
    """
    caps = caps or Caps()
    points: list[Point] = []
    skipped: list[Skipped] = []
    for axes, lengths in sides.items():
        for name in VARIANTS:
            seen: list[Point] = []
            for side in lengths:
                reason = foresee(seen, side**axes, caps)
                if reason:
                    skipped.append(Skipped(name, axes, side, reason))
                    on_point(f"{name} {_show(axes, side)}: left out, {reason}")
                    continue
                found = _measure_point(
                    name, axes, side, threads=threads, caps=caps, backend=backend
                )
                seen.append(found[0])
                points.extend(found)
                times = ", ".join(f"{p.milliseconds:.2f} ms on {p.threads}" for p in found)
                on_point(f"{name} {_show(axes, side)}: {times}, {found[0].memory_mb:.1f} MB")
    return Costs(tuple(points), tuple(skipped))


def create_layer(name: str, axes: int) -> Attention:
    """Build the attention that a row of the table stands for."""
    block, exchange = VARIANTS[name]
    side = _SIDE[axes]
    level = LevelSpec(
        block,  # type: ignore[arg-type]
        channels=CHANNELS,
        depth=1,
        window=side,
        halo=side // 2,
        region=side,
        grid=side,
        exchange=exchange,
    )
    torch.manual_seed(0)
    return Attention(level, axes=axes).eval()


def foresee(seen: Sequence[Point], tokens: int, caps: Caps) -> str:
    """Say why a larger map would cost too much, from what smaller ones cost; "" if it would not.

    Example:
        >>> seen = [Point("dense", 2, s, s * s, 1, s**4 / 1e6, s**4 / 1e6) for s in (32, 64)]
        >>> foresee(seen, 128**2, Caps(memory_mb=1000))
        ''
        >>> foresee(seen, 256**2, Caps(memory_mb=1000))
        'it would need about 4,295 MB; the cap is 1,000'
    """
    if not seen:
        return ""
    for unit, cap, values in (
        ("MB", caps.memory_mb, [point.memory_mb for point in seen]),
        ("ms", caps.call_ms, [point.milliseconds for point in seen]),
    ):
        last = seen[-2:]
        slope = 2.0
        if len(last) == 2:
            slope = max(1.0, fit_slope([p.tokens for p in last], values[-2:]))
        expected = values[-1] * (tokens / seen[-1].tokens) ** slope
        if expected > cap:
            return f"it would need about {expected:,.0f} {unit}; the cap is {cap:,.0f}"
    return ""


def fit_exponents(points: Sequence[Point], quantity: str) -> dict[str, dict[str, float | None]]:
    """Fit how a cost grows with tokens: exponent by mechanism and axes.

    Args:
        points: Points of one number of threads.
        quantity: "milliseconds" or "memory_mb".

    Returns:
        Mechanism -> "2d" or "3d" -> slope in logarithms over the largest sizes, within a
        factor of 8 of the most tokens, and at least three where there are; None for a
        mechanism with fewer than two points.
    """
    exponents: dict[str, dict[str, float | None]] = {}
    for name in dict.fromkeys(point.mechanism for point in points):
        exponents[name] = {}
        for axes in dict.fromkeys(point.axes for point in points):
            own = [p for p in points if p.mechanism == name and p.axes == axes]
            largest = max((p.tokens for p in own), default=0)
            count = max(_SMALLEST_FIT, sum(p.tokens * ASYMPTOTIC >= largest for p in own))
            last = own[-count:]
            exponents[name][f"{axes}d"] = (
                round(fit_slope([p.tokens for p in last], [getattr(p, quantity) for p in last]), 3)
                if len(last) > 1
                else None
            )
    return exponents


def fit_slope(tokens: Sequence[int], costs: Sequence[float]) -> float:
    """Slope of the line through the logarithms, by least squares.

    Example:
        >>> round(fit_slope([10, 100, 1000], [3.0, 300.0, 30000.0]), 6)
        2.0
    """
    x, y = np.log(np.asarray(tokens, float)), np.log(np.asarray(costs, float))
    x = x - x.mean()
    return float((x * y).sum() / (x * x).sum())


def _measure_point(
    name: str, axes: int, side: int, *, threads: Sequence[int], caps: Caps, backend: str
) -> list[Point]:
    """Measure one map with each number of threads."""
    layer = create_layer(name, axes)
    example = torch.rand(1, CHANNELS, *[side] * axes)
    memory = peak_memory_mb(layer, example)
    graph = trace_onnx(layer, example).SerializeToString()
    points = []
    for count in threads:
        session = open_graph(graph, backend=backend, threads=count)
        milliseconds = _time(session.predict, example.numpy(), caps)
        points.append(Point(name, axes, side, side**axes, count, milliseconds, memory))
    return points


def _time(call: Callable[[np.ndarray], np.ndarray], tensor: np.ndarray, caps: Caps) -> float:
    """Take the shortest of several calls, at least three: what else runs only adds time."""
    call(tensor)
    shortest, total, calls = math.inf, 0.0, 0
    while calls < 3 or total < caps.turn_ms:
        start = time.perf_counter()
        call(tensor)
        elapsed = (time.perf_counter() - start) * 1e3
        shortest, total, calls = min(shortest, elapsed), total + elapsed, calls + 1
    return shortest


def _show(axes: int, side: int) -> str:
    return " x ".join([str(side)] * axes)
