"""Plot of curves as SVG: axes with units, a grid, a line per curve.

It is dark, as the pictures are: the colours of structures are chosen to be seen on black.
"""

import math
from collections.abc import Mapping, Sequence
from html import escape

from bedside.report.plot_labels import measure

Color = tuple[int, int, int]

WIDTH = 720
_HEIGHT = 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 12, 22, 36
_ROW = 15
_PAPER, _INK, _GRID = "#14171b", "#c3cad1", "#2d343b"


def draw_curves(
    positions: Sequence[float],
    curves: Mapping[str, tuple[Color, Sequence[float]]],
    *,
    x_title: str,
    y_title: str,
) -> str:
    """Draw curves over shared positions; the y axis begins at 0, their names stand above.

    Args:
        positions: Place of each value along x, rising, at least two.
        curves: Name -> (colour, one value a position).
        x_title: What x is, with its unit.
        y_title: What y is, with its unit.

    Returns:
        An `<svg>` element that needs nothing beside it, `WIDTH` by `find_height` in pixels.
    """
    key = _lay_out(list(curves), y_title)
    height = _HEIGHT + _ROW * key[-1][0]
    top, bottom, right = height - _HEIGHT + _TOP, height - _BOTTOM, WIDTH - _RIGHT
    highest = max((max(values) for _, values in curves.values()), default=0)
    y_ticks = nice_ticks(0, highest or 1)
    x_ticks = [tick for tick in nice_ticks(positions[0], positions[-1], 8) if tick <= positions[-1]]

    def x(value: float) -> float:
        span = positions[-1] - positions[0]
        return _LEFT + (value - positions[0]) / span * (right - _LEFT)

    def y(value: float) -> float:
        return bottom - value / y_ticks[-1] * (bottom - top)

    about = f"{y_title} by {x_title}: {', '.join(curves)}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{escape(about)}" font-family="inherit" font-size="11" fill="{_INK}">'
        f'<rect width="{WIDTH}" height="{height}" rx="3" fill="{_PAPER}"/>'
    ]
    for tick in y_ticks:
        parts.append(
            f'<path d="M{_LEFT} {y(tick):.1f}H{right}" stroke="{_GRID}"/>'
            f'<text x="{_LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:,g}</text>'
        )
    for tick in x_ticks:
        parts.append(
            f'<path d="M{x(tick):.1f} {bottom}v4" stroke="{_INK}"/>'
            f'<text x="{x(tick):.1f}" y="{bottom + 16}" text-anchor="middle">{tick:g}</text>'
        )
    parts.append(f'<path d="M{_LEFT} {top}V{bottom}H{right}" stroke="{_INK}" fill="none"/>')
    parts.append(f'<text x="{right}" y="{height - 5}" text-anchor="end">{escape(x_title)}</text>')
    parts.append(f'<text x="6" y="14">{escape(y_title)}</text>')
    for color, values in curves.values():
        points = " ".join(
            f"{x(place):.1f},{y(value):.1f}" for place, value in zip(positions, values, strict=True)
        )
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="rgb{color}" stroke-width="2" '
            'stroke-linejoin="round"/>'
        )
    return "".join([*parts, _draw_key(curves, key), "</svg>"])


def find_height(names: Sequence[str], y_title: str) -> int:
    """Height of a plot of these curves, in pixels."""
    return _HEIGHT + _ROW * _lay_out(names, y_title)[-1][0]


def nice_ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Choose round numbers from `low` or just above it to `high` or just above it.

    Example:
        >>> nice_ticks(0, 4210)
        [0.0, 1000.0, 2000.0, 3000.0, 4000.0, 5000.0]
    """
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.ceil(high / step - 1e-9)
    return [float(round(count * step, 12)) for count in range(first, last + 1)]


def _lay_out(names: Sequence[str], y_title: str) -> list[tuple[int, float]]:
    """Find the (row, x) of each name above the plot, behind the title of y and below it."""
    places: list[tuple[int, float]] = []
    row, x = 0, 6 + measure(y_title) + 18
    for name in names:
        needed = 14 + measure(name)
        if x + needed > WIDTH - _RIGHT and x > _LEFT:
            row, x = row + 1, _LEFT
        places.append((row, x))
        x += needed + 12
    return places or [(0, x)]


def _draw_key(
    curves: Mapping[str, tuple[Color, Sequence[float]]], places: Sequence[tuple[int, float]]
) -> str:
    """Name the curves above the plot, each behind a patch of its colour."""
    return "".join(
        f'<rect x="{x:.1f}" y="{_ROW * row + 5}" width="10" height="10" fill="rgb{color}"/>'
        f'<text x="{x + 14:.1f}" y="{_ROW * row + 14}">{escape(name)}</text>'
        for (name, (color, _)), (row, x) in zip(curves.items(), places, strict=False)
    )
