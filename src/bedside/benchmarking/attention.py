"""The cost of attention: time and memory of each mechanism over the number of tokens.

Every mechanism has the same width and heads and works on the same maps, alone: 1x1
convolutions in, attention, 1x1 convolution out. Maps come and go channels-last, as they do
between the convolutions of a network, so that no turning of a layout is measured.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn

from bedside.benchmarking.growth import fit_slope, shortest_interleaved
from bedside.benchmarking.memory import peak_memory_mb
from bedside.export.onnx import trace_onnx
from bedside.layers.attention import Attention, Heads
from bedside.layers.windows import from_tokens, to_tokens
from bedside.runtime import open_graph
from bedside.spec import LevelSpec
from bedside.spec.mechanisms import MECHANISMS

CHANNELS = 64
# 64 tokens a window, region or pooled grid, in both.
_SIDE = {2: 8, 3: 4}
VARIANTS = {name: (name, False) for name in MECHANISMS} | {"window + exchange": ("window", True)}
"""Name of a row -> mechanism, and whether windows exchange pooled tokens."""

CONTROL = "projections alone"
"""The 1x1 convolutions without any attention between: linear by definition, so that what its
time grows by beyond that is due to the machine's caches."""

SIDES = {2: (32, 64, 88, 128, 192, 256, 384, 512), 3: (8, 12, 16, 20, 24, 32, 48)}
QUICK_SIDES = {2: (32, 64, 128), 3: (8, 16)}
"""Tokens along each axis, by the number of axes."""


@dataclass(frozen=True)
class Caps:
    """What a point may cost before it is left out, and how long it is measured for.

    Attributes:
        memory_mb: Tensors alive at once, counted beforehand from torch's operations; a
            runtime that fuses softmax into its products needs about half.
        call_ms: Time of one call, foreseen from smaller maps.
        turn_ms: Time that one size is repeated for before the next one has its turn.
        total_ms: Time that all sizes of a mechanism are measured for.
    """

    memory_mb: float = 2640.0
    call_ms: float = 10_000.0
    turn_ms: float = 30.0
    total_ms: float = 5000.0


QUICK_CAPS = Caps(memory_mb=600, turn_ms=10, total_ms=150)


@dataclass(frozen=True)
class Point:
    """What one mechanism costs on one map.

    Attributes:
        mechanism: Name of the row.
        spatial_dims: Spatial axes.
        side: Tokens along each axis.
        tokens: Tokens of the map.
        threads: Threads of the runtime.
        milliseconds: The shortest of several calls: with one thread the time that it kept
            its core busy, which a busy machine does not lengthen; with several the time on
            the clock.
        memory_mb: Tensors alive at once, at most.
    """

    mechanism: str
    spatial_dims: int
    side: int
    tokens: int
    threads: int
    milliseconds: float
    memory_mb: float


@dataclass(frozen=True)
class Skipped:
    """A point that was left out, and why."""

    mechanism: str
    spatial_dims: int
    side: int
    reason: str


@dataclass(frozen=True)
class Costs:
    """Measurements of attention.

    Attributes:
        points: Of the mechanisms.
        control: Of the projections alone.
        skipped: What was left out.
    """

    points: tuple[Point, ...]
    control: tuple[Point, ...]
    skipped: tuple[Skipped, ...]


class OnTokens(nn.Module):
    """A layer between channels-last maps, (B, *S, C).

    Args:
        layer: From (B, C, *S) to the same shape.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Transform (B, *S, C) into the same shape."""
        return to_tokens(self.layer(from_tokens(tokens)))


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
    points: dict[bool, list[Point]] = {True: [], False: []}
    skipped: list[Skipped] = []
    for spatial_dims, lengths in sides.items():
        for name in (CONTROL, *VARIANTS):
            graphs, left_out = _prepare(name, spatial_dims, lengths, caps)
            skipped.extend(left_out)
            for count in threads:
                found, left_out = _measure(graphs, threads=count, caps=caps, backend=backend)
                points[name == CONTROL].extend(found)
                skipped.extend(row for row in left_out if row not in skipped)
                for point in found:
                    on_point(
                        f"{name} {_show(spatial_dims, point.side)}, {count} thr.: "
                        f"{point.milliseconds:.2f} ms, {point.memory_mb:.1f} MB"
                    )
    return Costs(tuple(points[False]), tuple(points[True]), tuple(skipped))


def create_layer(name: str, spatial_dims: int) -> nn.Module:
    """Build the attention that a row of the table stands for, on channels-last maps."""
    block, exchange = VARIANTS.get(name, ("window", False))
    side = _SIDE[spatial_dims]
    level = LevelSpec(
        block,
        channels=CHANNELS,
        depth=1,
        window=side,
        halo=side // 2,
        region=side,
        grid=side,
        exchange=exchange,
    )
    torch.manual_seed(0)
    layer = Attention(level, spatial_dims=spatial_dims).eval()
    if name == CONTROL:
        heads = Heads(level.num_heads, level.head_dim, level.kv_heads)
        layer.mechanism = lambda tokens: heads.split(tokens)[0]
    return OnTokens(layer)


def fit_exponents(points: Sequence[Point], quantity: str) -> dict[str, dict[str, float | None]]:
    """Fit how a cost grows with tokens: exponent by mechanism and axes.

    Over all sizes, because an error of a time moves a slope the less the wider the range is.

    Args:
        points: Points of one number of threads.
        quantity: "milliseconds" or "memory_mb".

    Returns:
        Mechanism -> "2d" or "3d" -> slope in logarithms; None for a mechanism with fewer
        than two points.
    """
    exponents: dict[str, dict[str, float | None]] = {}
    for name in dict.fromkeys(point.mechanism for point in points):
        exponents[name] = {}
        for spatial_dims in dict.fromkeys(point.spatial_dims for point in points):
            own = [p for p in points if p.mechanism == name and p.spatial_dims == spatial_dims]
            exponents[name][f"{spatial_dims}d"] = (
                round(fit_slope([p.tokens for p in own], [getattr(p, quantity) for p in own]), 3)
                if len(own) > 1
                else None
            )
    return exponents


def foresee(tokens: Sequence[int], milliseconds: Sequence[float], larger: int) -> float:
    """Expected time of a larger map: extrapolated from the last two, at least in proportion.

    Example:
        >>> foresee([1024, 4096], [1.0, 16.0], 16384)
        256.0
    """
    slope = 2.0
    if len(tokens) > 1:
        slope = max(1.0, fit_slope(tokens[-2:], milliseconds[-2:]))
    expected: float = milliseconds[-1] * (larger / tokens[-1]) ** slope
    return round(expected, 3)


@dataclass(frozen=True)
class _Graph:
    """One map's graph, and what is known of it before it runs."""

    mechanism: str
    spatial_dims: int
    side: int
    memory_mb: float
    onnx: bytes

    @property
    def tokens(self) -> int:
        tokens: int = self.side**self.spatial_dims
        return tokens


def _prepare(
    name: str, spatial_dims: int, lengths: Sequence[int], caps: Caps
) -> tuple[list[_Graph], list[Skipped]]:
    """Count the memory of each size and make the graphs of those that fit."""
    layer = create_layer(name, spatial_dims)
    graphs, skipped = [], []
    for side in lengths:
        example = torch.rand(1, *[side] * spatial_dims, CHANNELS)
        memory = peak_memory_mb(create_layer(name, spatial_dims).to("meta"), example.to("meta"))
        if memory > caps.memory_mb:
            reason = f"it needs {memory:,.0f} MB; the cap is {caps.memory_mb:,.0f}"
            skipped.append(Skipped(name, spatial_dims, side, reason))
            continue
        onnx = trace_onnx(layer, example).SerializeToString()
        graphs.append(_Graph(name, spatial_dims, side, memory, onnx))
    return graphs, skipped


def _measure(
    graphs: Sequence[_Graph], *, threads: int, caps: Caps, backend: str
) -> tuple[list[Point], list[Skipped]]:
    """Open all sizes, and time them interleaved."""
    opened: list[_Graph] = []
    calls: list[Callable[[], object]] = []
    first: list[float] = []
    skipped = []
    # Wall-clock time needs more calls until one is undisturbed.
    clock = time.process_time if threads == 1 else time.perf_counter
    total = caps.total_ms if threads == 1 else 1.5 * caps.total_ms
    for graph in graphs:
        expected = foresee([g.tokens for g in opened], first, graph.tokens) if opened else 0.0
        if expected > caps.call_ms:
            reason = f"it would need about {expected:,.0f} ms; the cap is {caps.call_ms:,.0f}"
            skipped.append(Skipped(graph.mechanism, graph.spatial_dims, graph.side, reason))
            continue
        session = open_graph(graph.onnx, backend=backend, threads=threads)
        tensor = torch.rand(1, *[graph.side] * graph.spatial_dims, CHANNELS).numpy()
        calls.append(partial(session.predict, tensor))
        opened.append(graph)
        first += shortest_interleaved(calls[-1:], turn_ms=0.0, total_ms=0.0, rounds=1)
    times = shortest_interleaved(calls, turn_ms=caps.turn_ms, total_ms=total, clock=clock)
    points = [
        Point(g.mechanism, g.spatial_dims, g.side, g.tokens, threads, shortest, g.memory_mb)
        for g, shortest in zip(opened, times, strict=True)
    ]
    return points, skipped


def _show(spatial_dims: int, side: int) -> str:
    return " x ".join([str(side)] * spatial_dims)
