"""Shadows and lost echoes in training images."""

import dataclasses

import numpy as np
import pytest
import torch
from test_augment import STILL

from bedside.pipeline.frames.fan import find_apex
from bedside.training.artefacts import (
    draw_dropout,
    draw_shadow,
    plant_artefacts,
    trace_scan_lines,
)
from bedside.training.augment import augment
from bedside.training.batches import Batches
from bedside.training.example import Example
from sector_makers import make_sector

SHADOWS = dataclasses.replace(STILL, shadow=1.0)


@pytest.mark.parametrize("apex", [(-4.0, 63.5), (-40.0, 63.5), (2.0, 50.0)])
def test_the_apex_is_found_above_the_image_or_in_it(apex):
    sector = make_sector(apex=apex, half_deg=25.0)[0] > 0
    gaps = sector & (np.random.default_rng(0).random(sector.shape) < 0.7)
    for mask in (sector, gaps):
        row, column = find_apex(mask)
        assert row == pytest.approx(apex[0], abs=3)
        assert column == pytest.approx(apex[1], abs=1.5)


def test_a_linear_probe_and_an_empty_image_have_no_apex():
    assert find_apex(np.ones((40, 40), bool)) is None
    assert find_apex(np.zeros((40, 40), bool)) is None


@pytest.mark.parametrize("seed", range(6))
def test_a_shadow_is_as_dark_and_as_wide_as_the_recipe_says(seed):
    sector = make_sector()
    spec = dataclasses.replace(SHADOWS, shadow_deg=(20, 20), shadow_brightness=(0.25, 0.25))
    lines = trace_scan_lines(sector, (-4.0, 63.5))
    kept = draw_shadow(lines, spec, np.random.default_rng(seed))
    assert kept.max() <= 1
    assert kept.min() >= 0.25 - 1e-5
    # Deep down a wedge is dark over its whole width, unless it only becomes dark with depth.
    far = (lines.depth > 110) & (lines.depth < 120) & (np.abs(lines.angle) < np.radians(35))
    dark = np.degrees(lines.angle[far & (kept < 0.625)])
    assert np.ptp(dark) < 21


def test_shadows_fall_along_scan_lines():
    sector = make_sector()
    lines = trace_scan_lines(sector, (-4.0, 63.5))
    kept = draw_shadow(lines, SHADOWS, np.random.default_rng(3))
    deepest = lines.angle[(kept < 0.99) & (lines.depth > 100) & (sector[0] > 0)]
    shallow = lines.angle[(kept < 0.99) & (lines.depth < 60) & (lines.depth > 30)]
    assert deepest.size
    assert shallow.size
    assert shallow.min() >= deepest.min() - 0.05
    assert shallow.max() <= deepest.max() + 0.05


def test_echoes_are_lost_on_one_side_or_far_away():
    lines = trace_scan_lines(make_sector(), (-4.0, 63.5))
    inside = make_sector()[0] > 0
    sides = set()
    for seed in range(30):
        kept = draw_dropout(lines, np.random.default_rng(seed))
        lost = inside & (kept < 0.5)
        part = lost.sum() / inside.sum()
        assert part < 0.75
        if part > 0.05:
            left = lost & (lines.angle < 0)
            sides.add(round(float(left.sum() / lost.sum())))
    assert sides == {0, 1}


def test_an_image_without_a_sector_is_shadowed_from_above():
    image = np.ones((1, 64, 64), np.float32)
    found = plant_artefacts(image, None, SHADOWS, np.random.default_rng(0))
    assert (found <= image).all()
    assert (found < 0.9).any()
    # Parallel lines: what is dark at the bottom is dark, or not yet dark, at the same columns.
    assert np.ptp(np.flatnonzero(found[0, 60] < 0.9)) <= 64
    black = np.zeros((1, 64, 64), np.float32)
    assert (plant_artefacts(black, None, SHADOWS, np.random.default_rng(0)) == 0).all()


def test_labels_and_the_clean_view_stay_as_they_are():
    sector = make_sector()
    truth = (sector[0] > 0).astype(np.uint8)
    example = Example(0.8 * sector, truth)
    spec = dataclasses.replace(SHADOWS, dropout=0.5, speckle=0.3)
    changed = 0
    for seed in range(5):
        found = augment(example, spec, np.random.default_rng(seed))
        assert (found.truth == truth).all()
        np.testing.assert_allclose(found.clean, example.image, atol=1e-5)
        changed += bool((np.abs(found.image - example.image) > 0.1).any())
    assert changed == 5


def test_batches_hold_the_clean_view_only_if_asked():
    example = Example(0.8 * make_sector(64), np.zeros((64, 64), np.uint8))
    images, truths = next(Batches([example] * 4, SHADOWS, size=4).epoch(0))
    more = next(Batches([example] * 4, SHADOWS, size=4, with_clean=True).epoch(0))
    assert torch.equal(more[0], images)
    assert torch.equal(more[1], truths)
    np.testing.assert_allclose(more[2].numpy(), example.image[None].repeat(4, 0), atol=1e-5)
    assert (more[2] != images).any()
