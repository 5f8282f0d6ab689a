"""A plot of how costs grow, both axes in logarithms, as SVG drawn by hand."""

import math
from collections.abc import Mapping, Sequence
from html import escape

Color = tuple[int, int, int]
Series = Mapping[str, tuple[Color, Sequence[tuple[float, float]]]]

WIDTH, HEIGHT = 560, 330
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 130, 26, 40


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
    x_low, x_high = _decades([x for x, _ in points])
    y_low, y_high = _decades([y for _, y in points])
    bottom, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT

    def x(value: float) -> float:
        return _LEFT + (math.log10(value) - x_low) / (x_high - x_low) * (right - _LEFT)

    def y(value: float) -> float:
        return bottom - (math.log10(value) - y_low) / (y_high - y_low) * (bottom - _TOP)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'width="{WIDTH}" height="{HEIGHT}" role="img" font-family="sans-serif" font-size="11" '
        f'fill="#59636e"><rect width="100%" height="100%" fill="white"/>'
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
            f'<text x="{place:.1f}" y="{bottom + 16}" text-anchor="middle">{10**power:,}</text>'
        )
    parts.append(f'<text x="{right}" y="{HEIGHT - 6}" text-anchor="end">{escape(x_title)}</text>')
    parts.append(f'<text x="4" y="14">{escape(y_title)}</text>')
    ends = {name: y(own[-1][1]) for name, (_, own) in series.items()}
    labels = _spread(ends)
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
    return "".join([*parts, "</svg>"])


def stack_plots(plots: Sequence[str]) -> str:
    """Put plots of one size below each other in one SVG."""
    inner = "".join(
        f'<g transform="translate(0 {HEIGHT * i})">{p}</g>' for i, p in enumerate(plots)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT * len(plots)}">'
        f"{inner}</svg>\n"
    )


def _decades(values: Sequence[float]) -> tuple[int, int]:
    """Powers of ten around positive values, at least one decade apart.

    Example:
        >>> _decades([3.0, 250.0])
        (0, 3)
    """
    low = math.floor(math.log10(min(values)))
    return low, max(low + 1, math.ceil(math.log10(max(values))))


def _spread(places: Mapping[str, float], apart: float = 14.0) -> dict[str, float]:
    """Move labels down until none lies over another.

    Example:
        >>> _spread({"a": 10.0, "b": 12.0, "c": 90.0})
        {'a': 10.0, 'b': 24.0, 'c': 90.0}
    """
    spread: dict[str, float] = {}
    free = -math.inf
    for name, place in sorted(places.items(), key=lambda item: item[1]):
        spread[name] = max(place, free)
        free = spread[name] + apart
    return spread
