"""The plot of the frontier as SVG, drawn by hand: Dice over milliseconds, these in logarithms."""

import math
from collections.abc import Sequence
from dataclasses import replace
from html import escape

from bedside.io.curves import nice_ticks
from pareto import Point, find_frontier

_WIDTH, _HEIGHT = 760, 440
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 24, 30, 44
_OURS, _PEERS = "rgb(20,110,180)", "rgb(200,90,40)"
# How far below the best there is room; what lies deeper stands at the edge with its Dice, or it
# would press all the others together.
_DEEPEST = 0.04
_CHARACTER, _LINE = 6.2, 12.0
# Where a label may stand beside its point: (dx, dy, anchor), the first that is free.
_PLACES = (
    (8, 4, "start"),
    (-8, 4, "end"),
    (0, -9, "middle"),
    (0, 18, "middle"),
    (8, -8, "start"),
    (8, 16, "start"),
    (-8, -8, "end"),
    (-8, 16, "end"),
    (8, 28, "start"),
    (-8, 28, "end"),
    (8, -20, "start"),
    (-8, -20, "end"),
)
# Of points on the frontier, first where no line runs.
_PLACES_ABOVE = ((-6, -8, "end"), (8, -8, "start"), (-8, 16, "end"), *_PLACES)
_MS_TICKS = tuple(factor * 10.0**power for power in range(-2, 4) for factor in (1, 2, 5))


def draw_frontier(points: Sequence[Point], *, x_title: str, y_title: str) -> str:
    """Draw networks as named points, and a line along those that nothing beats.

    Args:
        points: At least one.
        x_title: What x is, with its unit.
        y_title: What y is.

    Returns:
        An `<svg>` element that needs nothing beside it.
    """
    points = _raise_deep(points)
    x_ticks = _surround([point.ms for point in points])
    values = [point.dice for point in points]
    y_ticks = nice_ticks(min(values) - 0.003, max(values) + 0.003)
    step = y_ticks[1] - y_ticks[0]
    y_low, y_high = y_ticks[0] - step, y_ticks[-1]
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM

    def x(value: float) -> float:
        share = math.log(value / x_ticks[0]) / math.log(x_ticks[-1] / x_ticks[0])
        return _LEFT + share * (right - _LEFT)

    def y(value: float) -> float:
        return bottom - (value - y_low) / (y_high - y_low) * (bottom - _TOP)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'width="{_WIDTH}" height="{_HEIGHT}" role="img" font-family="sans-serif" '
        f'font-size="11" fill="#59636e"><rect width="100%" height="100%" fill="white"/>'
    ]
    for tick in (y_low, *y_ticks):
        parts.append(
            f'<path d="M{_LEFT} {y(tick):.1f}H{right}" stroke="#e3e8ed"/>'
            f'<text x="{_LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:.3g}</text>'
        )
    for tick in x_ticks:
        parts.append(
            f'<path d="M{x(tick):.1f} {_TOP}V{bottom}" stroke="#e3e8ed"/>'
            f'<text x="{x(tick):.1f}" y="{bottom + 16}" text-anchor="middle">{tick:g}</text>'
        )
    parts.append(f'<text x="{right}" y="{_HEIGHT - 8}" text-anchor="end">{escape(x_title)}</text>')
    parts.append(f'<text x="4" y="14">{escape(y_title)}</text>')
    parts.append(_key(right))
    parts.append(_line([(x(point.ms), y(point.dice)) for point in find_frontier(points)], right))
    places = [(point, x(point.ms), y(point.dice)) for point in points]
    return "".join([*parts, *_draw_points(places), "</svg>"]) + "\n"


def _raise_deep(points: Sequence[Point]) -> list[Point]:
    """Bring points that are far below the best to the edge, and say their Dice in the name."""
    edge = max(point.dice for point in points) - _DEEPEST
    return [
        replace(point, name=f"{point.name}: {point.dice:.3f}", dice=edge)
        if point.dice < edge
        else point
        for point in points
    ]


def _line(corners: list[tuple[float, float]], right: float) -> str:
    """Draw the stairs below which everything is beaten."""
    path = f"M{corners[0][0]:.1f} {corners[0][1]:.1f}"
    path += "".join(f"H{a:.1f}V{b:.1f}" for a, b in corners[1:]) + f"H{right}"
    return f'<path d="{path}" fill="none" stroke="#8a949e" stroke-dasharray="5 3"/>'


def _draw_points(places: list[tuple[Point, float, float]]) -> list[str]:
    """Draw each point, and its name where no other name or point is."""
    frontier = find_frontier([point for point, _, _ in places])
    taken = [(a - 6, b - 6, a + 6, b + 6) for _, a, b in places]
    parts = []
    for point, a, b in places:
        wanted = _PLACES_ABOVE if point in frontier else _PLACES
        boxes = [_box(point.name, a + dx, b + dy, anchor) for dx, dy, anchor in wanted]
        free = [not any(_overlap(box, other) for other in taken) for box in boxes]
        index = free.index(True) if True in free else 0
        dx, dy, anchor = wanted[index]
        taken.append(boxes[index])
        color = _OURS if point.ours else _PEERS
        shape = (
            f'<circle cx="{a:.1f}" cy="{b:.1f}" r="5" fill="{color}"/>'
            if point.ours
            else f'<rect x="{a - 4:.1f}" y="{b - 4:.1f}" width="8" height="8" fill="{color}"/>'
        )
        parts.append(
            f'{shape}<text x="{a + dx:.1f}" y="{b + dy:.1f}" text-anchor="{anchor}" '
            f'fill="{color}">{escape(point.name)}</text>'
        )
    return parts


def _box(text: str, a: float, b: float, anchor: str) -> tuple[float, float, float, float]:
    """Estimate the rectangle of a text; what leaves the plot is put where nothing is free."""
    width = _CHARACTER * len(text)
    left = a - {"start": 0.0, "middle": width / 2, "end": width}[anchor]
    if left < _LEFT or left + width > _WIDTH:
        return (-math.inf, -math.inf, math.inf, math.inf)
    return (left, b - _LINE + 2, left + width, b + 2)


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _key(right: float) -> str:
    return (
        f'<text x="{right}" y="14" text-anchor="end"><tspan fill="{_OURS}">\u25cf ours</tspan>'
        f'<tspan dx="12" fill="{_PEERS}">\u25a0 classics</tspan>'
        '<tspan dx="12">- - frontier</tspan></text>'
    )


def _surround(values: Sequence[float]) -> list[float]:
    """Choose the ticks 1, 2, 5, 10 ... from below the smallest value to above the largest.

    Example:
        >>> _surround([0.9, 4.0])
        [0.5, 1.0, 2.0, 5.0]
    """
    first = max(index for index, tick in enumerate(_MS_TICKS) if tick < min(values))
    last = min(index for index, tick in enumerate(_MS_TICKS) if tick > max(values))
    return list(_MS_TICKS[first : last + 1])
