"""Pixels that are not square are shown to the network in the true shape of what they show."""

from dataclasses import replace

import numpy as np
import pytest

from bedside.pipeline.frames.geometry_steps import find_aspect
from bedside.pipeline.frames.plan import plan_sequence
from bedside.spec import Fit, ScaleRange, read_recipe
from bedside.stream.planner import CausalPlanner
from bedside.volume import ImageSequence

SPEC = replace(
    read_recipe("hc18").deployment,
    input=replace(read_recipe("hc18").deployment.input, size_px=(128, 128)),
    preprocess=(Fit(), ScaleRange(source="nominal")),
)


def make_disc(spacing_mm):
    """A disc of 30 mm in the middle of 60 x 60 mm, in pixels of any shape."""
    rows, columns = (round(60 / each) for each in spacing_mm)
    y, x = np.mgrid[:rows, :columns]
    away_mm = np.hypot((y + 0.5) * spacing_mm[0] - 30, (x + 0.5) * spacing_mm[1] - 30)
    pixels = np.where(away_mm < 15, 255, 0).astype(np.uint8)[None]
    return ImageSequence(
        shape=(1, *pixels.shape), decode=lambda index: pixels, spacing_mm=spacing_mm
    )


@pytest.mark.parametrize("spacing_mm", [(0.3, 0.3), (0.15, 0.3), (0.3, 0.15), (1.2, 0.4)])
def test_a_disc_is_as_wide_as_high_in_the_tensor(spacing_mm):
    sequence = make_disc(spacing_mm)
    plan = plan_sequence(sequence, SPEC)
    tensor = plan.apply(sequence.decode(0))[0, 0] > 0.5
    height, width = (np.ptp(np.flatnonzero(tensor.any(axis=axis))) + 1 for axis in (1, 0))
    assert height == pytest.approx(64, abs=2)
    assert width == pytest.approx(64, abs=2)
    told = [text for text in plan.warnings if "times as" in text]
    assert bool(told) == (spacing_mm[0] != spacing_mm[1])
    # The way back lands on the same pixels.
    logits = np.stack([-1.0 + 0 * tensor, np.where(tensor, 1.0, -3.0)]).astype(np.float32)
    labels = plan.transform.restore(logits, stride=1)
    truth = sequence.decode(0)[0] > 0
    assert 2 * (labels.astype(bool) & truth).sum() / (labels.sum() + truth.sum()) > 0.97


def test_without_a_scale_pixels_are_square():
    sequence = replace(make_disc((0.15, 0.3)), spacing_mm=None)
    tensor = plan_sequence(sequence, SPEC).apply(sequence.decode(0))[0, 0] > 0.5
    assert np.ptp(np.flatnonzero(tensor.any(axis=1))) > 1.8 * np.ptp(
        np.flatnonzero(tensor.any(axis=0))
    )


def test_spacings_that_are_rounded_are_square():
    assert find_aspect((0.3, 0.302)) == find_aspect((0.302, 0.3)) == 1
    assert find_aspect((0.6, 0.3)) == pytest.approx(2)


def test_a_stream_plans_anew_when_the_shape_of_pixels_changes():
    frame = make_disc((0.15, 0.3)).decode(0)
    planner = CausalPlanner(SPEC, spacing_mm=(0.3, 0.3))
    try:
        first = planner.plan_for(frame, 0.0).plan
        planner.rescale((0.2, 0.2))
        assert planner.plan_for(frame, 0.1).plan is first
        planner.rescale((0.15, 0.3))
        other = planner.plan_for(frame, 0.2)
        assert other.reason == ""
        assert other.plan.transform.inner.width > 1.8 * first.transform.inner.width
    finally:
        planner.close()


def test_an_aspect_ratio_counts_where_there_is_no_scale():
    sequence = replace(make_disc((0.15, 0.3)), spacing_mm=None, pixel_aspect=0.5)
    tensor = plan_sequence(sequence, SPEC).apply(sequence.decode(0))[0, 0] > 0.5
    height, width = (np.ptp(np.flatnonzero(tensor.any(axis=axis))) + 1 for axis in (1, 0))
    assert height == pytest.approx(width, abs=3)
