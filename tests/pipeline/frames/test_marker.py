"""Mirrored views are turned for the network, and labels turned back."""

from dataclasses import replace

import numpy as np
import pytest

from bedside.errors import SpecError
from bedside.pipeline.frames.marker import (
    LOPSIDED,
    TURNED,
    UNSURE,
    find_certainty,
    find_lean,
    shrink,
)
from bedside.pipeline.segmenter import Segmenter
from bedside.spec import InputSpec, MarkerCheck
from bedside.volume import ImageSequence
from sided_network import SPEC, Sided, make_film, make_lopsided_film


def test_a_mirrored_film_gets_mirrored_labels_and_says_so():
    segmenter = Segmenter(SPEC, Sided())
    upright = segmenter.segment_sequence(make_film())
    mirrored = segmenter.segment_sequence(make_film(mirrored=True))
    assert upright.warnings == ()
    assert mirrored.warnings == (TURNED,)
    assert (mirrored.labels.array == upright.labels.array[..., ::-1]).all()
    assert upright.labels.array.any(axis=(1, 2)).all()
    both = [
        segmenter.segment_sequence(make_film(mirrored=turn), probabilities=True).probabilities
        for turn in (False, True)
    ]
    np.testing.assert_allclose(both[1], both[0][..., ::-1], atol=1e-6)


def test_one_odd_frame_does_not_turn_a_film():
    film = make_film(5)
    images = np.stack(list(film))
    images[0] = images[0, ..., ::-1]
    found = Segmenter(SPEC, Sided()).segment_sequence(ImageSequence.from_array(images))
    assert found.warnings == ()


def test_what_cannot_be_told_is_taken_as_it_is_and_told():
    both = make_film(columns=(24, 56))
    found = Segmenter(SPEC, Sided()).segment_sequence(both)
    assert found.warnings == (UNSURE,)
    assert (found.labels.array[:, 26:34, 27:53] == 1).all()


@pytest.mark.parametrize("mirrored", [False, True])
def test_a_sector_with_one_dark_side_is_not_turned(mirrored):
    found = Segmenter(SPEC, Sided()).segment_sequence(make_lopsided_film(mirrored=mirrored))
    assert found.warnings == (LOPSIDED,)


def test_the_lean_of_a_sector_is_that_of_its_middle():
    rows, columns = np.mgrid[:128, :128] - np.array([0, 64])[:, None, None]
    angle = np.arctan2(columns, rows + 8)
    for left, right in ((-0.4, 0.4), (-0.4, 0.1), (-0.1, 0.4)):
        sector = ((angle > left) & (angle < right)).astype(np.float32)
        wanted = abs(np.tan(left) + np.tan(right)) / 2
        assert find_lean(sector) == pytest.approx(wanted, abs=0.02)
    assert find_lean(np.zeros((128, 128), np.float32)) == 0


def test_without_the_check_nothing_is_turned():
    segmenter = Segmenter(replace(SPEC, marker=None), Sided())
    assert segmenter.segment_sequence(make_film(mirrored=True)).warnings == ()
    plan = segmenter.plan(make_film(mirrored=True))
    assert segmenter.check_marker(plan, list(make_film())) is plan


def test_single_frames_follow_their_plan():
    segmenter = Segmenter(SPEC, Sided())
    film = make_film(mirrored=True)
    plan = segmenter.plan(film)
    assert plan.mirrored
    labels = segmenter.segment_frame(film.decode(2), plan).labels
    assert (labels == segmenter.segment_sequence(film).labels.array[2]).all()


def test_certainty_is_between_0_and_1_and_0_for_what_is_not_drawn():
    logits = np.zeros((3, 8, 8), np.float32)
    logits[1, :4] = 30
    logits[0, 4:] = 30
    assert find_certainty(logits) == pytest.approx(0.5)
    assert find_certainty(-logits) < 0.6


def test_certainty_is_the_soft_dice_of_probabilities_with_their_labels():
    logits = np.random.default_rng(7).normal(size=(4, 20, 24)).astype(np.float32)
    logits[3] -= 20  # drawn nowhere
    chances = np.exp(logits.astype(np.float64))
    chances /= chances.sum(axis=0)
    labels = chances.argmax(axis=0)
    wanted = [
        2 * chances[value][labels == value].sum()
        / (chances[value].sum() + np.count_nonzero(labels == value))
        for value in (1, 2)
    ]  # fmt: skip
    before = logits.copy()
    assert find_certainty(logits) == pytest.approx(sum(wanted) / 3, rel=1e-6)
    assert np.array_equal(logits, before)


class Counted(Sided):
    """Counts its calls."""

    calls = 0

    def predict(self, *arrays):
        self.calls += 1
        return super().predict(*arrays)


@pytest.mark.parametrize("mirrored", [False, True])
def test_what_the_check_of_a_still_has_shown_the_network_is_not_run_again(mirrored):
    still = make_film(1, mirrored=mirrored)
    session = Counted()
    found = Segmenter(SPEC, session).segment_sequence(still)
    assert session.calls == 2 * len(SPEC.marker.scales)
    again = Segmenter(SPEC, session)
    frame = again.segment_frame(still.decode(0), again.plan(still))
    assert session.calls == 4 * len(SPEC.marker.scales) + 1
    assert (found.labels.array[0] == frame.labels).all()
    assert found.labels.array.any()
    assert found.stage_ms["network"][0] > 0


def test_a_shrunk_image_lies_in_the_middle_of_black():
    tensor = np.ones((1, 2, 40, 60), np.float32)
    small = shrink(tensor, 0.5)
    assert small.shape == tensor.shape
    assert small.sum() == 2 * 20 * 30
    assert (small[..., 10:30, 15:45] == 1).all()
    assert shrink(tensor, 1.0) is tensor


def test_a_scan_has_no_marker():
    with pytest.raises(SpecError, match="margin is 1"):
        MarkerCheck(margin=1.0)
    with pytest.raises(SpecError, match="scales is"):
        MarkerCheck(scales=(1.5,))
    model = replace(SPEC.model, spatial_dims=3)
    with pytest.raises(SpecError, match="marker is for a network of 2 axes"):
        replace(SPEC, model=model, preprocess=(), input=InputSpec("MR", 1, (32, 32, 32)))
