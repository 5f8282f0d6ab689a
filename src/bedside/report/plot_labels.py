"""Places names beside the points of a plot without overlaps."""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

Box = tuple[float, float, float, float]
Segment = tuple[float, float, float, float]
"""From (x, y) to (x, y)."""

_CHARACTER, _LINE, _DOT = 6.2, 12.0, 6.0
_DISTANCES = (8.0, 12.0, 18.0, 26.0, 36.0, 48.0, 62.0, 78.0, 96.0, 120.0, 150.0, 190.0, 240.0)
# Beside, then above and below, then between; y grows downwards.
_ANGLES = (0, 180, -90, 90, -40, 40, -140, 140, -65, 65, -115, 115, -20, 20, -160, 160)
# Beyond this a thin line leads from the point to its name.
_NEAR = 12.0
# What is bad about a place, beside its distance: lying over something, across a line, where it
# is taken for another point's name, or at the end of a lead.
_OVER, _ACROSS, _WRONG, _LEAD = 1000.0, 15.0, 30.0, 10.0
_CROWD, _ORDERS = 80.0, 8


@dataclass(frozen=True)
class Name:
    """A point's name and where it stands.

    Attributes:
        text: The name.
        x: Where the text is anchored, from the left.
        y: Its base line, from the top.
        anchor: Which part of the text is there: "start", "middle" or "end".
        lead: A line from the point to the name, where they are apart; None where they are not.
    """

    text: str
    x: float
    y: float
    anchor: str
    lead: Segment | None

    @property
    def box(self) -> Box:
        """The rectangle that it takes, at most: (left, top, right, bottom)."""
        width = measure(self.text)
        left = self.x - width * {"start": 0.0, "middle": 0.5, "end": 1.0}[self.anchor]
        return left, self.y - 10, left + width, self.y + 2

    def draw(self, color: str) -> str:
        """Draw it as SVG."""
        lead = ""
        if self.lead is not None:
            x, y, to_x, to_y = self.lead
            lead = (
                f'<path d="M{x:.1f} {y:.1f}L{to_x:.1f} {to_y:.1f}" stroke="{color}" '
                'stroke-width="0.7" stroke-opacity="0.7"/>'
            )
        return (
            f'{lead}<text x="{self.x:.1f}" y="{self.y:.1f}" text-anchor="{self.anchor}" '
            f'fill="{color}" stroke="white" stroke-width="3" paint-order="stroke">'
            f"{escape(self.text)}</text>"
        )


def draw_beyond(x: float, bottom: float, color: str) -> str:
    """Draw the arrow that stands for a point below a plot's lower edge, as SVG."""
    return (
        f'<path d="M{x:.1f} {bottom - 14:.1f}v8" stroke="{color}" stroke-width="2"/>'
        f'<path d="M{x - 5:.1f} {bottom - 8:.1f}h10l-5 8z" fill="{color}"/>'
    )


def measure(text: str) -> float:
    """Estimate the width of a text of 11 px in any browser, rather too wide."""
    return _CHARACTER * len(text)


def place_names(
    points: Sequence[tuple[float, float, str]], area: Box, *, lines: Sequence[Segment] = ()
) -> list[Name]:
    """Find a place for every point's name: beside it if that is free, else farther away.

    Args:
        points: (x, y, name) in pixels.
        area: Where names may stand.
        lines: What is drawn besides; names keep clear of it where they can.

    Returns:
        One for each point, in their order.
    """
    crowd = [sum(math.hypot(x - a, y - b) < _CROWD for a, b, _ in points) for x, y, _ in points]
    order = sorted(range(len(points)), key=lambda index: -crowd[index])
    shuffle = random.Random(0).shuffle
    found, least = [], math.inf
    for _ in range(_ORDERS):
        names, cost = _place_in_order(points, area, order, lines)
        if cost < least:
            found, least = names, cost
        shuffle(order)
    return found


def _place_in_order(
    points: Sequence[tuple[float, float, str]],
    area: Box,
    order: Sequence[int],
    lines: Sequence[Segment],
) -> tuple[list[Name], float]:
    """Place names one after another; give them in the order of points, and what is bad in all."""
    dots = [(x - _DOT, y - _DOT, x + _DOT, y + _DOT) for x, y, _ in points]
    placed: dict[int, Name] = {}
    total = 0.0
    for index in order:
        best, least = None, math.inf
        for name, distance in _list_places(*points[index]):
            if distance >= least:
                break
            cost = distance + _judge(name, dots, index, area, list(placed.values()), lines)
            if cost < least:
                best, least = name, cost
        assert best is not None, "a list of places is never empty"
        placed[index] = best
        total += least
    return [placed[index] for index in range(len(points))], total


def _judge(
    name: Name,
    dots: Sequence[Box],
    own: int,
    area: Box,
    names: Sequence[Name],
    lines: Sequence[Segment],
) -> float:
    """Penalty of a position, in pixels of additional distance."""
    box, lead = name.box, name.lead
    others = [dot for index, dot in enumerate(dots) if index != own]
    cost = _OVER * (not _lies_in(box, area))
    cost += _OVER * sum(_overlap(box, other) for other in (*dots, *(each.box for each in names)))
    cost += _OVER * sum(each.lead is not None and _crosses(each.lead, box) for each in names)
    cost += _ACROSS * sum(_crosses(line, box) for line in lines)
    # A name that lies nearer to another point would be taken for that one's.
    cost += _WRONG * any(_gap(box, dot) < _gap(box, dots[own]) for dot in others)
    if lead is not None:
        cost += _LEAD + _OVER * sum(_crosses(lead, each.box) for each in names)
        cost += _WRONG * sum(_crosses(lead, dot) for dot in others)
    return cost


def _list_places(x: float, y: float, text: str) -> Iterator[tuple[Name, float]]:
    """Try places around a point, the nearest first."""
    for distance in _DISTANCES:
        for angle in _ANGLES:
            across, down = math.cos(math.radians(angle)), math.sin(math.radians(angle))
            near_x, near_y = x + distance * across, y + distance * down
            anchor = "middle" if abs(across) < 0.3 else "start" if across > 0 else "end"
            base = near_y + _LINE / 2 - 2 + down * _LINE / 2
            lead = None
            if distance > _NEAR:
                lead = (x + 5 * across, y + 5 * down, near_x, near_y)
            yield Name(text, near_x, base, anchor, lead), distance


def _gap(one: Box, other: Box) -> float:
    """Distance between two rectangles."""
    across = max(one[0] - other[2], other[0] - one[2], 0.0)
    return math.hypot(across, max(one[1] - other[3], other[1] - one[3], 0.0))


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _lies_in(box: Box, area: Box) -> bool:
    left, top, right, bottom = area
    return left <= box[0] and top <= box[1] and box[2] <= right and box[3] <= bottom


def _crosses(line: Segment, box: Box) -> bool:
    """Whether a line runs through a rectangle (Liang and Barsky)."""
    x, y, to_x, to_y = line
    enter, leave = 0.0, 1.0
    for start, step, low, high in ((x, to_x - x, box[0], box[2]), (y, to_y - y, box[1], box[3])):
        if step == 0:
            if not low < start < high:
                return False
            continue
        near, far = sorted(((low - start) / step, (high - start) / step))
        enter, leave = max(enter, near), min(leave, far)
    return enter < leave
