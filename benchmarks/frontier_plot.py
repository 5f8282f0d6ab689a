"""The plot of the frontier as SVG, drawn by hand: Dice over milliseconds, these in logarithms."""

import math
from collections.abc import Sequence
from html import escape

from bedside.report.curves import nice_ticks
from bedside.report.plot_labels import Segment, draw_beyond, place_names
from pareto import Point, find_frontier

_WIDTH, _HEIGHT = 760, 440
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 24, 30, 44
_OURS, _PEERS = "rgb(20,110,180)", "rgb(200,90,40)"
# How far below the best there is room. What lies deeper would press all the others together: an
# arrow at the lower edge points to it, with its Dice.
_DEEPEST = 0.04
_MS_TICKS = tuple(factor * 10.0**power for power in range(-4, 7) for factor in (1, 2, 5))


def draw_frontier(points: Sequence[Point], *, x_title: str, y_title: str) -> str:
    """Draw networks as named points, and a line along those that nothing beats.

    A network far below the best is an arrow at the lower edge, named with its Dice.

    Args:
        points: At least one.
        x_title: What x is, with its unit.
        y_title: What y is.

    Returns:
        An `<svg>` element that needs nothing beside it.
    """
    x_ticks = _surround([point.ms for point in points])
    best = max(point.dice for point in points)
    values = [point.dice for point in points if point.dice >= best - _DEEPEST]
    y_ticks = nice_ticks(min(values) - 0.003, max(values) + 0.003)
    step = y_ticks[1] - y_ticks[0]
    y_low, y_high = y_ticks[0] - step, y_ticks[-1]
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM

    def x(value: float) -> float:
        share = math.log(value / x_ticks[0]) / math.log(x_ticks[-1] / x_ticks[0])
        return _LEFT + share * (right - _LEFT)

    def y(value: float) -> float:
        return bottom - max(0.0, value - y_low) / (y_high - y_low) * (bottom - _TOP)

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
    stairs = _find_stairs([(x(point.ms), y(point.dice)) for point in find_frontier(points)], right)
    parts.append(_draw_stairs(stairs))
    places = [
        (point, x(point.ms), bottom - 7 if point.dice < y_low else y(point.dice))
        for point in points
    ]
    names = place_names(
        [(a, b, _name(point, deep=point.dice < y_low)) for point, a, b in places],
        (_LEFT + 2, _TOP, right, bottom - 1),
        lines=stairs,
    )
    parts += [name.draw(_color(point)) for name, point in zip(names, points, strict=True)]
    parts += [_draw_point(point, a, b, deep=point.dice < y_low) for point, a, b in places]
    return "".join([*parts, "</svg>"]) + "\n"


def _find_stairs(corners: list[tuple[float, float]], right: float) -> list[Segment]:
    """Find the stairs below which everything is beaten."""
    stairs: list[Segment] = []
    x, y = corners[0]
    for to_x, to_y in corners[1:]:
        stairs += [(x, y, to_x, y), (to_x, y, to_x, to_y)]
        x, y = to_x, to_y
    return [*stairs, (x, y, right, y)]


def _draw_stairs(stairs: Sequence[Segment]) -> str:
    x, y = stairs[0][:2]
    path = f"M{x:.1f} {y:.1f}" + "".join(f"L{to_x:.1f} {to_y:.1f}" for *_, to_x, to_y in stairs)
    return f'<path d="{path}" fill="none" stroke="#8a949e" stroke-dasharray="5 3"/>'


def _draw_point(point: Point, x: float, y: float, *, deep: bool) -> str:
    """Draw ours as discs, classics as squares, and what lies below the plot as an arrow."""
    color = _color(point)
    if deep:
        return draw_beyond(x, y + 7, color)
    if point.ours:
        return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{color}"/>'
    return f'<rect x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8" fill="{color}"/>'


def _name(point: Point, *, deep: bool) -> str:
    return f"{point.name}: {point.dice:.3f}, below" if deep else point.name


def _color(point: Point) -> str:
    return _OURS if point.ours else _PEERS


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
