"""Dice over milliseconds, drawn by hand as SVG: every candidate, the path, and the budget."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

from bedside.io.curves import nice_ticks

Kind = Literal["source", "kept", "undone"]
_WIDTH, _HEIGHT = 760, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 24, 30, 44
_COLORS = {"source": "rgb(90,98,108)", "kept": "rgb(20,110,180)", "undone": "rgb(200,90,40)"}
_BUDGET = "rgb(180,30,60)"


@dataclass(frozen=True)
class Dot:
    """One candidate.

    Attributes:
        name: What stands beside it.
        ms: Its time.
        dice: Its mean validation Dice.
        kind: Whether it is where the walk began, was kept, or was undone.
    """

    name: str
    ms: float
    dice: float
    kind: Kind


def draw_path(dots: Sequence[Dot], *, target_ms: float | None, x_title: str, y_title: str) -> str:
    """Draw candidates as points, the path through those kept, the frontier, and the budget.

    Args:
        dots: In the order of the walk, the source first.
        target_ms: Where the budget's line stands; None for none.
        x_title: What x is, with its unit.
        y_title: What y is.

    Returns:
        An `<svg>` element that needs nothing beside it.
    """
    x_ticks = nice_ticks(0, 1.08 * max([dot.ms for dot in dots] + [target_ms or 0.0]), 8)
    values = [dot.dice for dot in dots]
    y_ticks = nice_ticks(min(values) - 0.002, max(values) + 0.002)
    low, high = y_ticks[0] - (y_ticks[1] - y_ticks[0]), y_ticks[-1]
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM

    def x(value: float) -> float:
        return _LEFT + value / x_ticks[-1] * (right - _LEFT)

    def y(value: float) -> float:
        return bottom - (value - low) / (high - low) * (bottom - _TOP)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'width="{_WIDTH}" height="{_HEIGHT}" role="img" font-family="sans-serif" '
        f'font-size="11" fill="#59636e"><rect width="100%" height="100%" fill="white"/>'
    ]
    parts += [
        f'<path d="M{_LEFT} {y(tick):.1f}H{right}" stroke="#e3e8ed"/>'
        f'<text x="{_LEFT - 6}" y="{y(tick) + 4:.1f}" text-anchor="end">{tick:.4g}</text>'
        for tick in (low, *y_ticks)
    ]
    parts += [
        f'<path d="M{x(tick):.1f} {_TOP}V{bottom}" stroke="#e3e8ed"/>'
        f'<text x="{x(tick):.1f}" y="{bottom + 16}" text-anchor="middle">{tick:g}</text>'
        for tick in x_ticks
    ]
    parts.append(f'<text x="{right}" y="{_HEIGHT - 8}" text-anchor="end">{escape(x_title)}</text>')
    parts.append(f'<text x="4" y="14">{escape(y_title)}</text>{_key(right)}')
    if target_ms is not None:
        parts.append(
            f'<path d="M{x(target_ms):.1f} {_TOP}V{bottom}" stroke="{_BUDGET}" stroke-width="1.5"/>'
            f'<text x="{x(target_ms) + 4:.1f}" y="{bottom - 6}" fill="{_BUDGET}">'
            f"budget {target_ms:g} ms</text>"
        )
    places = [(dot, x(dot.ms), y(dot.dice)) for dot in dots]
    corners = [(x(dot.ms), y(dot.dice)) for dot in find_frontier(dots)]
    stairs = f"M{corners[0][0]:.1f} {corners[0][1]:.1f}"
    stairs += "".join(f"H{a:.1f}V{b:.1f}" for a, b in corners[1:]) + f"H{right}"
    parts.append(f'<path d="{stairs}" fill="none" stroke="#8a949e" stroke-dasharray="5 3"/>')
    path = " ".join(f"{a:.1f},{b:.1f}" for dot, a, b in places if dot.kind != "undone")
    parts.append(f'<polyline points="{path}" fill="none" stroke="{_COLORS["kept"]}"/>')
    parts += [_draw(dot, a, b) for dot, a, b in places]
    return "".join([*parts, "</svg>"]) + "\n"


def find_frontier(dots: Sequence[Dot]) -> list[Dot]:
    """Give the candidates than which none is both faster and better, fastest first.

    Example:
        >>> dots = [Dot("a", 2, 0.9, "kept"), Dot("b", 3, 0.8, "kept"), Dot("c", 1, 0.7, "kept")]
        >>> [dot.name for dot in find_frontier(dots)]
        ['c', 'a']
    """
    frontier: list[Dot] = []
    for dot in sorted(dots, key=lambda dot: (dot.ms, -dot.dice)):
        if not frontier or dot.dice > frontier[-1].dice:
            frontier.append(dot)
    return frontier


def _draw(dot: Dot, a: float, b: float) -> str:
    color = _COLORS[dot.kind]
    if dot.kind == "undone":
        shape = (
            f'<path d="M{a - 4:.1f} {b - 4:.1f}l8 8m0 -8l-8 8" stroke="{color}" stroke-width="2"/>'
        )
    else:
        shape = f'<circle cx="{a:.1f}" cy="{b:.1f}" r="5" fill="{color}"/>'
    return f'{shape}<text x="{a + 8:.1f}" y="{b - 6:.1f}" fill="{color}">{escape(dot.name)}</text>'


def _key(right: float) -> str:
    return (
        f'<text x="{right}" y="14" text-anchor="end"><tspan fill="{_COLORS["kept"]}">'
        f'\u25cf kept</tspan><tspan dx="12" fill="{_COLORS["undone"]}">\u00d7 undone</tspan>'
        '<tspan dx="12">- - frontier</tspan></text>'
    )
