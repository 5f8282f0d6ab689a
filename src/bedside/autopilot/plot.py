"""Plot of Dice over milliseconds as SVG: candidates, path and budget."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

from bedside.report.curves import nice_ticks
from bedside.report.plot_labels import Segment, draw_beyond, place_names

Kind = Literal["source", "kept", "undone"]
_WIDTH, _HEIGHT = 760, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, _WIDTH - 24, 30, _HEIGHT - 44
COLORS: Mapping[str, str] = {
    "source": "rgb(90,98,108)",
    "kept": "rgb(20,110,180)",
    "undone": "rgb(200,90,40)",
}
_BUDGET = "rgb(180,30,60)"


@dataclass(frozen=True)
class Dot:
    """One candidate.

    Attributes:
        name: What stands beside it.
        ms: Its time.
        dice: Its mean validation Dice; far below the others, an arrow at the edge stands for it.
        kind: Whether it is the source, was kept, or was undone.
    """

    name: str
    ms: float
    dice: float
    kind: Kind


@dataclass(frozen=True)
class Frame:
    """Axes of Dice over milliseconds, and coordinates of values.

    Attributes:
        x_ticks: Marks along x in ms, from 0.
        y_ticks: Marks along y in Dice; the axis begins one step below the first.
    """

    x_ticks: Sequence[float]
    y_ticks: Sequence[float]

    @classmethod
    def around(
        cls,
        points: Sequence[tuple[float, float]],
        target_ms: float | None,
        *,
        lowest: float = -math.inf,
    ) -> "Frame":
        """Choose axes that hold some points (ms, Dice), and the budget.

        Args:
            points: At least one that is not below `lowest`.
            target_ms: The budget; None for none.
            lowest: Dice below which points are left out.
        """
        values = [dice for _, dice in points if dice >= lowest]
        return cls(
            nice_ticks(0, 1.08 * max([ms for ms, _ in points] + [target_ms or 0.0]), 8),
            nice_ticks(min(values) - 0.002, max(values) + 0.002),
        )

    @property
    def _low(self) -> float:
        return self.y_ticks[0] - (self.y_ticks[1] - self.y_ticks[0])

    def x(self, ms: float) -> float:
        """X coordinate of a time."""
        return _LEFT + ms / self.x_ticks[-1] * (_RIGHT - _LEFT)

    def y(self, dice: float) -> float:
        """Y coordinate of a Dice; of one below the axis, the lower edge."""
        share = max(0.0, dice - self._low) / (self.y_ticks[-1] - self._low)
        return _BOTTOM - share * (_BOTTOM - _TOP)

    def is_below(self, dice: float) -> bool:
        """Whether a Dice lies below the axis."""
        return dice < self._low

    def draw(self, *, target_ms: float | None, x_title: str, y_title: str, key: str) -> list[str]:
        """Draw the axes and the budget, and open the picture: the caller closes it.

        Args:
            target_ms: Where the budget's line stands; None for none.
            x_title: What x is, with its unit.
            y_title: What y is.
            key: Text that stands in the upper right corner.

        Returns:
            Pieces of SVG, of which the first opens `<svg>`.
        """
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
            f'width="{_WIDTH}" height="{_HEIGHT}" role="img" font-family="sans-serif" '
            f'font-size="11" fill="#59636e"><rect width="100%" height="100%" fill="white"/>'
        ]
        parts += [
            f'<path d="M{_LEFT} {self.y(tick):.1f}H{_RIGHT}" stroke="#e3e8ed"/>'
            f'<text x="{_LEFT - 6}" y="{self.y(tick) + 4:.1f}" text-anchor="end">{tick:.4g}</text>'
            for tick in (self._low, *self.y_ticks)
        ]
        parts += [
            f'<path d="M{self.x(tick):.1f} {_TOP}V{_BOTTOM}" stroke="#e3e8ed"/>'
            f'<text x="{self.x(tick):.1f}" y="{_BOTTOM + 16}" text-anchor="middle">{tick:g}</text>'
            for tick in self.x_ticks
        ]
        parts.append(
            f'<text x="{_RIGHT}" y="{_HEIGHT - 8}" text-anchor="end">{escape(x_title)}</text>'
            f'<text x="4" y="14">{escape(y_title)}</text>'
            f'<text x="{_RIGHT}" y="14" text-anchor="end">{key}</text>'
        )
        if target_ms is not None:
            place = self.x(target_ms)
            side, anchor = (4, "start") if place < _WIDTH / 2 else (-4, "end")
            parts.append(
                f'<path d="M{place:.1f} {_TOP}V{_BOTTOM}" stroke="{_BUDGET}" stroke-width="1.5"/>'
                f'<text x="{place + side:.1f}" y="{_TOP - 4}" text-anchor="{anchor}" '
                f'fill="{_BUDGET}">'
                f"budget {target_ms:g} ms</text>"
            )
        return parts


def draw_path(
    dots: Sequence[Dot],
    *,
    target_ms: float | None,
    x_title: str,
    y_title: str,
    lowest: float = -math.inf,
) -> str:
    """Draw candidates as points, the path through those kept, the frontier, and the budget.

    Args:
        dots: In the order of the run, the source first.
        target_ms: Where the budget's line stands; None for none.
        x_title: What x is, with its unit.
        y_title: What y is.
        lowest: Dice below which a candidate is an arrow at the lower edge, with its Dice.

    Returns:
        An `<svg>` element that needs nothing beside it.
    """
    frame = Frame.around([(dot.ms, dot.dice) for dot in dots], target_ms, lowest=lowest)
    parts = frame.draw(target_ms=target_ms, x_title=x_title, y_title=y_title, key=_KEY)
    parts.append(draw_frontier(dots, frame))
    kept = [(frame.x(dot.ms), frame.y(dot.dice)) for dot in dots if dot.kind != "undone"]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in kept)
    parts.append(f'<polyline points="{path}" fill="none" stroke="{COLORS["kept"]}"/>')
    lines = [(*start, *end) for start, end in itertools.pairwise(kept)]
    parts += draw_dots(dots, frame, target_ms=target_ms, lines=lines)
    return "".join([*parts, "</svg>"]) + "\n"


def draw_frontier(dots: Sequence[Dot], frame: Frame) -> str:
    """Draw the Pareto frontier."""
    corners = [(frame.x(dot.ms), frame.y(dot.dice)) for dot in find_frontier(dots)]
    stairs = f"M{corners[0][0]:.1f} {corners[0][1]:.1f}"
    stairs += "".join(f"H{a:.1f}V{b:.1f}" for a, b in corners[1:]) + f"H{_RIGHT}"
    return f'<path d="{stairs}" fill="none" stroke="#8a949e" stroke-dasharray="5 3"/>'


def find_frontier(dots: Sequence[Dot]) -> list[Dot]:
    """Pareto frontier: candidates than which none is both faster and better, fastest first.

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


def draw_dots(
    dots: Sequence[Dot],
    frame: Frame,
    *,
    target_ms: float | None,
    lines: Sequence[Segment] = (),
) -> list[str]:
    """Draw candidates, and their names where there is room.

    Args:
        dots: The candidates.
        frame: The axes.
        target_ms: Where the budget's line stands; None for none.
        lines: What else is drawn between them.
    """
    places = [
        (frame.x(dot.ms), _BOTTOM - 7 if frame.is_below(dot.dice) else frame.y(dot.dice))
        for dot in dots
    ]
    budget: list[Segment] = []
    if target_ms is not None:
        budget = [(frame.x(target_ms), _TOP, frame.x(target_ms), _BOTTOM)]
    names = place_names(
        [
            (x, y, f"{dot.name}: {dot.dice:.2f}, below" if frame.is_below(dot.dice) else dot.name)
            for dot, (x, y) in zip(dots, places, strict=True)
        ],
        (_LEFT + 2, _TOP, _RIGHT, _BOTTOM - 1),
        lines=[*lines, *budget],
    )
    parts = [name.draw(COLORS[dot.kind]) for dot, name in zip(dots, names, strict=True)]
    return parts + [_draw_dot(dot, x, y, frame) for dot, (x, y) in zip(dots, places, strict=True)]


def _draw_dot(dot: Dot, x: float, y: float, frame: Frame) -> str:
    """Draw one candidate without its name."""
    color = COLORS[dot.kind]
    if frame.is_below(dot.dice):
        return draw_beyond(x, _BOTTOM, color)
    if dot.kind == "undone":
        return (
            f'<path d="M{x - 4:.1f} {y - 4:.1f}l8 8m0 -8l-8 8" stroke="{color}" stroke-width="2"/>'
        )
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{color}"/>'


def describe_threads(count: int) -> str:
    """Write a number of threads in words."""
    return f"{count} thread{'s' if count > 1 else ''}"


_KEY = (
    f'<tspan fill="{COLORS["kept"]}">\u25cf kept</tspan>'
    f'<tspan dx="12" fill="{COLORS["undone"]}">\u00d7 undone</tspan>'
    '<tspan dx="12">- - frontier</tspan>'
)
