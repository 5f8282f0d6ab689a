"""A scan from a tilted gantry is straightened for the network; its labels lean again."""

from dataclasses import replace

import numpy as np
import pytest

from bedside.pipeline.volumes.tilt import correct_gantry_tilt
from bedside.segment import Segmenter
from bedside.spec import Orient, Resample, WindowLevel
from bedside.volume import Geometry
from bedside.volume.geometry import find_tilt
from dicom_makers import make_affine
from volume_makers import Threshold, centroid_mm, draw_phantom, make_scan, make_spec

SHAPE, SPACING = (16, 24, 26), (2.0, 0.8, 0.7)
LEANS = [(0.36, 0.0), (-0.5, 0.0), (0.2, -0.3)]


def _make_scan(lean):
    affine = make_affine(spacing=SPACING, lean=lean)
    geometry = Geometry(SHAPE, affine, space="LPS")
    middle = affine[:3] @ [*(np.array(SHAPE) - 1) / 2, 1]
    ball = draw_phantom(geometry, middle + np.array([2.0, 1.0, -3.0]), 4.0)
    return make_scan(ball.astype(np.float32), geometry, SPACING), ball


@pytest.mark.parametrize("lean", LEANS)
def test_the_straight_scan_shows_the_same_ball_at_the_same_place(lean):
    scan, ball = _make_scan(lean)
    straight, way_back = correct_gantry_tilt(scan)
    assert not find_tilt(straight.geometry).any()
    shown = np.stack(list(straight))[:, 0]
    assert shown.shape == straight.geometry.shape
    off = centroid_mm(shown > 0.5, straight.geometry) - centroid_mm(ball, scan.geometry)
    # Whole pixels: half a pixel at most.
    assert (np.abs(off) <= 0.5 * np.array([0.7, 0.8, 1e-3])).all()
    assert np.array_equal(way_back.undo(shown), ball)
    # A ball is as long as wide on the straight grid, and leans on the other.
    extent = np.ptp(np.argwhere(shown > 0.5), axis=0) * SPACING
    assert np.ptp(extent) <= 2 * max(SPACING)


def test_an_upright_scan_is_left_as_it_is():
    scan, ball = _make_scan((0, 0))
    assert correct_gantry_tilt(scan) == (scan, None)
    no_place = make_scan(ball)
    assert correct_gantry_tilt(no_place) == (no_place, None)


@pytest.mark.parametrize("lean", LEANS)
def test_labels_of_a_tilted_scan_come_back_to_its_own_grid(lean):
    scan, ball = _make_scan(lean)
    resample = Resample(spacing_mm=(1.0, 0.7, 0.7))
    spec = make_spec(Orient(), resample, WindowLevel(level=0.5, width=1.0))
    found = Segmenter(spec, Threshold()).segment_sequence(scan).labels.array
    assert found.shape == SHAPE
    dice = 2 * (found.astype(bool) & ball).sum() / (found.astype(bool).sum() + ball.sum())
    assert dice > 0.9
    off = centroid_mm(found > 0, scan.geometry) - centroid_mm(ball, scan.geometry)
    assert np.linalg.norm(off) < 0.5 * min(SPACING)


def test_missing_slices_hold_no_labels():
    whole_scan, _ = _make_scan((0, 0))
    spec = make_spec(WindowLevel(level=0.5, width=1.0))
    whole = Segmenter(spec, Threshold()).segment_sequence(whole_scan).labels.array
    scan = replace(whole_scan, unknown=(6, 7))
    found = Segmenter(spec, Threshold()).segment_sequence(scan).labels.array
    assert whole[6].any()
    assert not found[6:8].any()
    whole[6:8] = 0
    assert np.array_equal(found, whole)
