"""Roofline plot of operations, as SVG."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from bedside.report.log_axes import LogAxes
from bedside.report.scaling_plot import Color

_RIGHT, _TOP = 130, 30
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
    axes = LogAxes.around(
        [dot.intensity for dot in everything] + [edge],
        [dot.gflops for dot in everything] + [gflops],
        margin=_RIGHT,
        top=_TOP,
    )
    x, y, right = axes.x, axes.y, axes.right
    # The slope starts at the bottom or at the left, whichever comes first.
    start = max(10.0 ** axes.x_powers[0], 10.0 ** axes.y_powers[0] / memory_gbs)
    roof = (
        f"{x(start):.1f},{y(start * memory_gbs):.1f} "
        f"{x(edge):.1f},{y(gflops):.1f} {right},{y(gflops):.1f}"
    )
    parts = [
        f'<polyline points="{roof}" fill="none" stroke="rgb{_CEILING}" stroke-width="1.5"/>'
        f'<text x="{right}" y="{y(gflops) - 5:.1f}" text-anchor="end">{gflops:,.0f} GFLOP/s, '
        f"{memory_gbs:,.1f} GB/s</text>"
    ]
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
    return axes.draw(parts, x_title="FLOP for each byte", y_title=f"{title}, GFLOP/s")
