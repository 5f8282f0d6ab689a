"""Ellipses through masks, against ellipses that the masks were drawn from."""

import numpy as np
import pytest

from bedside.report.ellipse import Ellipse, fit_ellipse, fit_head


def draw(centre_mm, semi_axes_mm, angle_deg, *, spacing_mm, shape=(300, 400)):
    """Draw the pixels whose centres lie within an ellipse in mm."""
    rows, columns = np.mgrid[: shape[0], : shape[1]].astype(float)
    y = rows * spacing_mm[0] - centre_mm[0]
    x = columns * spacing_mm[1] - centre_mm[1]
    angle = np.deg2rad(angle_deg)
    along = x * np.cos(angle) + y * np.sin(angle)
    across = y * np.cos(angle) - x * np.sin(angle)
    return (along / semi_axes_mm[0]) ** 2 + (across / semi_axes_mm[1]) ** 2 <= 1


@pytest.mark.parametrize("spacing_mm", [(0.2, 0.2), (0.3, 0.15), (0.15, 0.3)])
@pytest.mark.parametrize("angle_deg", [0.0, 30.0, 90.0, 155.0])
def test_an_ellipse_is_found_again_whatever_the_pixels_shape(spacing_mm, angle_deg):
    centre = (150 * spacing_mm[0], 200 * spacing_mm[1])
    mask = draw(centre, (18.0, 14.0), angle_deg, spacing_mm=spacing_mm)
    found = fit_ellipse(mask, spacing_mm)
    # Pixels are up to 0.3 mm wide, and some 500 of them make the outline.
    assert found.centre_mm == pytest.approx(centre, abs=0.03)
    assert found.semi_axes_mm == pytest.approx((18.0, 14.0), abs=0.03)
    turned = abs(found.angle_deg - angle_deg)
    assert min(turned, 180 - turned) < 0.5


def test_the_circumference_is_that_of_the_integral():
    ellipse = Ellipse((0.0, 0.0), (60.0, 45.0), 0.0)
    t = np.linspace(0, 2 * np.pi, 200_001)
    lengths = np.hypot(np.diff(60 * np.cos(t)), np.diff(45 * np.sin(t)))
    assert ellipse.circumference_mm == pytest.approx(lengths.sum(), abs=1e-6)


def test_a_head_is_measured_half_a_pixel_within_its_mask():
    mask = draw((30.0, 40.0), (20.0, 15.0), 20.0, spacing_mm=(0.2, 0.2))
    expected = Ellipse((0, 0), (19.9, 14.9), 0).circumference_mm
    assert fit_head(mask, (0.2, 0.2)).circumference_mm == pytest.approx(expected, abs=0.1)


def test_holes_and_crumbs_do_not_move_the_ellipse():
    mask = draw((30.0, 40.0), (20.0, 15.0), 20.0, spacing_mm=(0.2, 0.2))
    broken = mask.copy()
    broken[140:160, 190:200] = False
    broken[2:6, 2:6] = True
    assert fit_ellipse(broken, (0.2, 0.2)) == fit_ellipse(mask, (0.2, 0.2))


def test_a_head_that_leaves_the_image_is_completed_along_its_visible_outline():
    mask = draw((30.0, 6.0), (10.0, 8.0), 0.0, spacing_mm=(0.2, 0.2))
    assert mask[:, 0].any()
    found = fit_ellipse(mask, (0.2, 0.2))
    assert found.semi_axes_mm == pytest.approx((10.0, 8.0), abs=0.1)


@pytest.mark.parametrize("pixels", [0, 1])
def test_what_has_no_outline_has_no_ellipse(pixels):
    mask = np.zeros((20, 20), bool)
    mask[5, 5 : 5 + pixels] = True
    assert fit_ellipse(mask, (1.0, 1.0)) is None
    assert fit_head(mask, (1.0, 1.0)) is None
