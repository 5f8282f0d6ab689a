"""Lengths by hand: rows, squares, discs and diagonals, on pixels that are not square."""

import numpy as np
import pytest

from bedside.report.areas import measure_areas
from bedside.report.diameter import measure_diameter_mm, measure_extents
from bedside.volume import Box, LabelMap
from makers import LABELS
from tolerances import FLOAT64_ATOL


@pytest.mark.parametrize(
    ("shape", "spacing_mm", "expected"),
    [
        ((1, 1), (0.5, 0.5), 0.5),
        ((1, 1), (0.5, 2.0), 2.0),
        ((1, 7), (0.5, 2.0), 14.0),
        # A pixel is 2 mm wide: from the left of the first to the right of the last.
        ((7, 1), (0.5, 2.0), np.hypot(3.0, 2.0)),
        # From the middle of an edge to the middle of the opposite corner's edge.
        ((3, 4), (1.0, 1.0), np.hypot(2, 4)),
    ],
)
def test_a_rectangle_is_as_long_as_by_hand(shape, spacing_mm, expected):
    assert measure_diameter_mm(np.ones(shape, bool), spacing_mm) == pytest.approx(expected)


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0), (0.4, 0.9)])
@pytest.mark.parametrize("centre", [(40.0, 40.0), (40.3, 39.6)])
def test_a_disc_is_as_long_as_wide_to_a_pixel(spacing_mm, centre):
    rows, columns = np.mgrid[:81, :81]
    radius_mm = 15.0
    squares = ((rows - centre[0]) * spacing_mm[0]) ** 2
    disc = squares + ((columns - centre[1]) * spacing_mm[1]) ** 2 <= radius_mm**2
    assert abs(measure_diameter_mm(disc, spacing_mm) - 2 * radius_mm) <= max(spacing_mm) + 1e-6


def test_the_farthest_points_of_all_pixels_are_found():
    """Against every pair of edge middles, for shapes with holes and bays."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        mask = rng.random((9, 11)) < 0.15
        mask[4, 5] = True
        pixels = np.argwhere(mask)
        steps = np.array([(-0.5, 0), (0.5, 0), (0, -0.5), (0, 0.5)])
        points = (pixels[:, None] + steps).reshape(-1, 2) * (0.7, 1.3)
        expected = np.linalg.norm(points[:, None] - points[None], axis=2).max()
        assert measure_diameter_mm(mask, (0.7, 1.3)) == pytest.approx(expected, rel=1e-6)


def test_the_box_runs_along_the_axes_from_edge_to_edge():
    array = np.zeros((5, 6, 7), np.uint8)
    array[1:4, 2, 1:5] = 1
    array[3, 4, 0] = 1
    array[0, 0, 0] = 2
    extents = measure_extents(array, [1, 2, 3], spacing_mm=(0.5, 2.0), slice_mm=3.0)
    assert extents[1].box_mm == (9.0, 1.5, 10.0)
    assert extents[2].box_mm == (3.0, 0.5, 2.0)
    assert extents[3].box_mm == (0.0, 0.0, 0.0)
    assert extents[1].diameter_mm[0] == 0
    assert extents[1].diameter_mm[1] == pytest.approx(8.0, abs=FLOAT64_ATOL)
    assert extents[3].diameter_mm == (0.0,) * 5


def test_the_report_tells_diameters_where_the_scale_is_known():
    array = np.zeros((3, 8, 8), np.uint8)
    array[1, 2, 1:4] = array[2, 2, 1:7] = 1
    region = Box(0, 0, 8, 8)
    scan = measure_areas(LabelMap(array, (0.5, 2.0)), LABELS, region=region, slice_mm=4.0)
    assert scan[0].diameter_mm == (0.0, 6.0, 12.0)
    assert (scan[0].largest_diameter.mm, scan[0].largest_diameter.frame) == (12.0, 3)
    assert scan[0].box_mm == (8.0, 0.5, 12.0)
    assert scan[0].volume_ml == pytest.approx(9 * 0.5 * 2 * 4 / 1000)
    assert scan[1].largest_diameter is None
    film = measure_areas(LabelMap(array, (0.5, 2.0)), LABELS, region=region)
    assert film[0].box_mm is None
    assert film[0].largest_diameter.mm == 12.0
    unknown = measure_areas(LabelMap(array), LABELS, region=region)
    assert (unknown[0].diameter_mm, unknown[0].largest_diameter) == (None, None)
