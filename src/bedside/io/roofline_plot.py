"""Operations beside what a machine can do at most, as SVG drawn by hand."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from bedside.io.scaling_plot import HEIGHT, WIDTH, Color

_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 130, 30, 40
_CEILING: Color = (90, 98, 110)


@dataclass(frozen=True)
class Dot:
    """One operation.

    Attributes:
        name: Shown when a pointer rests on it.
        intensity: Operations for each byte that it moves.
        gflops: 1e9 operations a second, as it ran.
        share: Part of the time of all; the dot's area.
    """

    name: str
    intensity: float
    gflops: float
    share: float


def draw_roofline(
    dots: Mapping[str, tuple[Color, Sequence[Dot]]],
    *,
    title: str,
    gflops: float,
    memory_gbs: float,
) -> str:
    """Draw operations under the roof of a machine, both axes in logarithms.

    To the left of the roof's edge the memory is what limits, to the right the arithmetic. What
    stays in caches may lie above the slope.

    Args:
        dots: Kind of operation -> (colour, its operations).
        title: What is shown.
        gflops: 1e9 operations a second that the machine can do at most.
        memory_gbs: 1e9 bytes a second that its memory can move at most.

    Returns:
        An `<svg>` element that needs nothing beside it.
    """
    everything = [dot for _, own in dots.values() for dot in own]
    edge = gflops / memory_gbs
    places = [dot.intensity for dot in everything] + [edge]
    heights = [dot.gflops for dot in everything] + [gflops]
    x_low, x_high = _decades(places)
    y_low, y_high = _decades(heights)
    bottom, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT

    def x(value: float) -> float:
        return _LEFT + (math.log10(value) - x_low) / (x_high - x_low) * (right - _LEFT)

    def y(value: float) -> float:
        return bottom - (math.log10(value) - y_low) / (y_high - y_low) * (bottom - _TOP)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" role="img" font-family="sans-serif" font-size="11" '
        f'fill="#59636e"><rect width="100%" height="100%" fill="white"/>'
        f'<text x="4" y="14">{escape(title)}, GFLOP/s</text>'
    ]
    for power in range(y_low, y_high + 1):
        place = y(10.0**power)
        parts.append(
            f'<path d="M{_LEFT} {place:.1f}H{right}" stroke="#e3e8ed"/>'
            f'<text x="{_LEFT - 6}" y="{place + 4:.1f}" text-anchor="end">{10.0**power:,g}</text>'
        )
    for power in range(x_low, x_high + 1):
        place = x(10.0**power)
        parts.append(
            f'<path d="M{place:.1f} {_TOP}V{bottom}" stroke="#e3e8ed"/>'
            f'<text x="{place:.1f}" y="{bottom + 16}" text-anchor="middle">{10.0**power:,g}</text>'
        )
    # The slope starts at the bottom or at the left, whichever comes first.
    start = max(10.0**x_low, 10.0**y_low / memory_gbs)
    roof = (
        f"{x(start):.1f},{y(start * memory_gbs):.1f} "
        f"{x(edge):.1f},{y(gflops):.1f} {right},{y(gflops):.1f}"
    )
    parts.append(
        f'<polyline points="{roof}" fill="none" stroke="rgb{_CEILING}" stroke-width="1.5"/>'
        f'<text x="{right}" y="{y(gflops) - 5:.1f}" text-anchor="end">{gflops:,.0f} GFLOP/s, '
        f"{memory_gbs:,.1f} GB/s</text>"
        f'<text x="{right}" y="{HEIGHT - 6}" text-anchor="end">FLOP for each byte</text>'
    )
    for row, (kind, (color, own)) in enumerate(dots.items()):
        for dot in own:
            radius = 2 + 14 * math.sqrt(dot.share)
            parts.append(
                f'<circle cx="{x(dot.intensity):.1f}" cy="{y(dot.gflops):.1f}" r="{radius:.1f}" '
                f'fill="rgb{color}" fill-opacity="0.55"><title>{escape(dot.name)}</title></circle>'
            )
        share = sum(dot.share for dot in own)
        parts.append(
            f'<text x="{right + 10}" y="{_TOP + 14 * (row + 1)}" fill="rgb{color}">'
            f"{escape(kind)} {100 * share:.0f} %</text>"
        )
    return "".join([*parts, "</svg>"])


def _decades(values: Sequence[float]) -> tuple[int, int]:
    """Powers of ten around positive values, at least one decade apart.

    Example:
        >>> _decades([0.3, 25.0])
        (-1, 2)
    """
    low = math.floor(math.log10(min(values)))
    return low, max(low + 1, math.ceil(math.log10(max(values))))
