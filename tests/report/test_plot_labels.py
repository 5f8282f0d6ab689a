import random
import re
from itertools import combinations

import pytest

from bedside.autopilot.plot import Dot, draw_path
from bedside.report.plot_labels import place_names

AREA = (62.0, 30.0, 736.0, 396.0)


def overlap(one, other):
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def check_apart(names, points):
    """No name lies over another, over a point, or beyond the plot."""
    for one, other in combinations(names, 2):
        assert not overlap(one.box, other.box), (one, other)
    for name in names:
        left, top, right, bottom = name.box
        assert left >= AREA[0]
        assert right <= AREA[2]
        assert top >= AREA[1]
        assert bottom <= AREA[3]
        for x, y, text in points:
            assert not overlap(name.box, (x - 4, y - 4, x + 4, y + 4)), (name, text)


@pytest.mark.parametrize("seed", range(6))
def test_names_of_scattered_points_lie_apart(seed):
    draw = random.Random(seed)
    points = [
        (draw.uniform(70, 730), draw.uniform(40, 390), "name " * draw.randint(1, 5))
        for _ in range(20)
    ]
    check_apart(place_names(points, AREA), points)


def test_names_of_a_crowd_lie_apart_and_are_led_to():
    points = [
        (300 + 11 * (i % 3), 200 + 11 * (i // 3), f"network {i}, half as wide") for i in range(7)
    ]
    names = place_names(points, AREA)
    check_apart(names, points)
    assert any(name.lead for name in names)
    for name, (x, y, _) in zip(names, points, strict=True):
        if name.lead is not None:
            assert abs(name.lead[0] - x) <= 5
            assert abs(name.lead[1] - y) <= 5


def test_a_point_alone_has_its_name_beside_it():
    (name,) = place_names([(200.0, 100.0, "alone")], AREA)
    assert (name.x, name.anchor, name.lead) == (208.0, "start", None)


def test_a_point_at_the_right_edge_has_its_name_on_the_left():
    (name,) = place_names([(730.0, 100.0, "a long name at the edge")], AREA)
    assert name.anchor == "end"


def test_names_keep_clear_of_lines():
    line = (62.0, 100.0, 736.0, 100.0)
    (name,) = place_names([(200.0, 100.0, "on a line")], AREA, lines=[line])
    assert not name.box[1] < 100 < name.box[3]


def test_a_ruined_candidate_is_an_arrow_at_the_edge_with_its_dice():
    dots = [
        Dot("source", 5.0, 0.860, "source"),
        Dot("1 prune", 3.0, 0.858, "kept"),
        Dot("2 prune", 1.0, 0.120, "undone"),
    ]
    svg = draw_path(dots, target_ms=2.0, x_title="ms", y_title="Dice", lowest=0.84)
    assert "2 prune: 0.12, below" in svg
    # One disc each for the others, no cross for what is not on the axes, and one arrow.
    assert svg.count("<circle") == 2
    assert "8m0 -8l-8 8" not in svg
    assert len(re.findall(r"h10l-5 8z", svg)) == 1
    # The axis shows the differences that decide.
    assert re.search(r">0\.85\d*<", svg)
    assert not re.search(r'text-anchor="end">0\.[0-7]\d*<', svg)
