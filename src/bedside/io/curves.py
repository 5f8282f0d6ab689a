"""A plot of curves as SVG, drawn by hand: axes with units, a grid, a line per curve."""

import math
from collections.abc import Mapping, Sequence
from html import escape

Color = tuple[int, int, int]

_WIDTH, _HEIGHT = 720, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 12, 22, 36


def draw_curves(
    positions: Sequence[float],
    curves: Mapping[str, tuple[Color, Sequence[float]]],
    *,
    x_title: str,
    y_title: str,
) -> str:
    """Draw curves over shared positions; the y axis begins at 0.

    Args:
        positions: Place of each value along x, rising, at least two.
        curves: Name -> (colour, one value a position).
        x_title: What x is, with its unit.
        y_title: What y is, with its unit.

    Returns:
        An `<svg>` element that needs nothing beside it.
    """
    highest = max((max(values) for _, values in curves.values()), default=0)
    y_ticks = nice_ticks(0, highest or 1)
    x_ticks = [tick for tick in nice_ticks(positions[0], positions[-1], 8) if tick <= positions[-1]]

    def x(value: float) -> float:
        span = positions[-1] - positions[0]
        return _LEFT + (value - positions[0]) / span * (_WIDTH - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return _HEIGHT - _BOTTOM - value / y_ticks[-1] * (_HEIGHT - _TOP - _BOTTOM)

    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'font-family="inherit" font-size="11" fill="#59636e">'
    ]
    for tick in y_ticks:
        parts.append(
            f'<path d="M{_LEFT} {y(tick):.1f}H{right}" stroke="#e3e8ed"/>'
            f'<text x="{_LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:,g}</text>'
        )
    for tick in x_ticks:
        parts.append(
            f'<path d="M{x(tick):.1f} {bottom}v4" stroke="#59636e"/>'
            f'<text x="{x(tick):.1f}" y="{bottom + 16}" text-anchor="middle">{tick:g}</text>'
        )
    parts.append(f'<path d="M{_LEFT} {_TOP}V{bottom}H{right}" stroke="#59636e" fill="none"/>')
    parts.append(f'<text x="{right}" y="{_HEIGHT - 5}" text-anchor="end">{escape(x_title)}</text>')
    parts.append(f'<text x="4" y="12">{escape(y_title)}</text>')
    for color, values in curves.values():
        points = " ".join(
            f"{x(place):.1f},{y(value):.1f}" for place, value in zip(positions, values, strict=True)
        )
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="rgb{color}" stroke-width="2" '
            'stroke-linejoin="round"/>'
        )
    return "".join([*parts, _key(curves), "</svg>"])


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


def _key(curves: Mapping[str, tuple[Color, Sequence[float]]]) -> str:
    """Name the curves above the plot, on its right."""
    names = "".join(
        f'<tspan dx="12" fill="rgb{color}">\u25a0</tspan><tspan dx="4">{escape(name)}</tspan>'
        for name, (color, _) in curves.items()
    )
    return f'<text x="{_WIDTH - _RIGHT}" y="12" text-anchor="end">{names}</text>'
