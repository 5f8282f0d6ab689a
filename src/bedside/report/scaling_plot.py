"""Log-log plot of costs, as SVG."""

import math
from collections.abc import Mapping, Sequence
from html import escape

from bedside.report.log_axes import BOTTOM, HEIGHT, WIDTH, LogAxes

Color = tuple[int, int, int]
Series = Mapping[str, tuple[Color, Sequence[tuple[float, float]]]]

_RIGHT = 130


def draw_scaling(series: Series, *, x_title: str, y_title: str) -> str:
    """Draw positive values over positive places, a line and its name per series.

    Args:
        series: Name -> (colour, points (x, y), rising in x).
        x_title: What x is, with its unit.
        y_title: What y is, with its unit.

    Returns:
        An `<svg>` element that needs nothing beside it.
    """
    points = [point for _, own in series.values() for point in own]
    axes = LogAxes.around([x for x, _ in points], [y for _, y in points], margin=_RIGHT)
    x, y, right = axes.x, axes.y, axes.right
    parts: list[str] = []
    ends = {name: y(own[-1][1]) for name, (_, own) in series.items()}
    labels = _spread(ends, last=BOTTOM)
    for name, (color, own) in series.items():
        line = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in own)
        parts.append(
            f'<polyline points="{line}" fill="none" stroke="rgb{color}" stroke-width="2" '
            'stroke-linejoin="round"/>'
        )
        parts.extend(
            f'<circle cx="{x(a):.1f}" cy="{y(b):.1f}" r="2.5" fill="rgb{color}"/>' for a, b in own
        )
        parts.append(
            f'<path d="M{x(own[-1][0]):.1f} {ends[name]:.1f}L{right + 6} {labels[name]:.1f}" '
            f'stroke="rgb{color}" stroke-width="0.6" stroke-dasharray="2 2" fill="none"/>'
            f'<text x="{right + 10}" y="{labels[name] + 4:.1f}" fill="rgb{color}">'
            f"{escape(name)}</text>"
        )
    return axes.draw(parts, x_title=x_title, y_title=y_title)


def stack_plots(plots: Sequence[str]) -> str:
    """Put plots of one size below each other in one SVG."""
    inner = "".join(
        f'<g transform="translate(0 {HEIGHT * i})">{p}</g>' for i, p in enumerate(plots)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT * len(plots)}">'
        f"{inner}</svg>\n"
    )


def _spread(places: Mapping[str, float], *, last: float, apart: float = 14.0) -> dict[str, float]:
    """Move labels until none lies over another: down, and where they would leave the plot, up.

    Example:
        >>> _spread({"a": 10.0, "b": 12.0, "c": 90.0}, last=300.0)
        {'a': 10.0, 'b': 24.0, 'c': 90.0}
        >>> _spread({"a": 280.0, "b": 299.0, "c": 299.0}, last=300.0)
        {'a': 272.0, 'b': 286.0, 'c': 300.0}
    """
    spread: dict[str, float] = {}
    free = -math.inf
    for name, place in sorted(places.items(), key=lambda item: item[1]):
        spread[name] = max(place, free)
        free = spread[name] + apart
    for name in reversed(list(spread)):
        spread[name] = min(spread[name], last)
        last = spread[name] - apart
    return spread
