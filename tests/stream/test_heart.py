"""Volumes, beats and ejection fractions, by shapes whose truth is known and by experts' masks."""

from pathlib import Path

import cv2
import nibabel
import numpy as np
import pytest

from bedside.stream.heart import BeatFinder, find_values, simpson_volume
from makers import LABELS

CAMUS = Path(__file__).parents[2].parent / "shared" / "data" / "camus"
VALUES = find_values(LABELS)


def draw(long_px=100, wide_px=50, *, angle=0.0, atrium=True):
    """Half an ellipsoid cut off at the mitral plane, with an atrium below and muscle around."""
    labels = np.zeros((400, 400), np.uint8)
    cv2.ellipse(labels, (200, 220), (wide_px + 12, long_px + 12), 0, 180, 360, 2, cv2.FILLED)
    cv2.ellipse(labels, (200, 220), (wide_px, long_px), 0, 180, 360, 1, cv2.FILLED)
    labels[221:] = 0
    if atrium:
        cv2.ellipse(labels, (200, 221), (wide_px, 50), 0, 0, 180, 3, cv2.FILLED)
    turn = cv2.getRotationMatrix2D((200, 200), angle, 1)
    return cv2.warpAffine(labels, turn, (400, 400), flags=cv2.INTER_NEAREST)


@pytest.mark.parametrize("angle", [0, 30, 75, 180])
def test_half_an_ellipsoid_has_its_volume_however_it_lies(angle):
    truth = 2 / 3 * np.pi * 50.5 * 50.5 * 100.5 / 1000  # a disc of radius 50 is 101 pixels wide
    assert simpson_volume(draw(angle=angle), VALUES) == pytest.approx(truth, rel=0.04)


def test_volumes_scale_with_the_pixels_along_each_axis():
    labels = draw()
    ml = simpson_volume(labels, VALUES, spacing_mm=(0.5, 0.5))
    assert ml == pytest.approx(simpson_volume(labels, VALUES) / 8)
    tall = simpson_volume(labels, VALUES, spacing_mm=(2.0, 1.0))
    assert tall == pytest.approx(2 * simpson_volume(labels, VALUES), rel=0.02)


def test_without_an_atrium_the_mitral_plane_is_where_no_muscle_is():
    with_atrium, without = (simpson_volume(draw(atrium=has), VALUES) for has in (True, False))
    assert without == pytest.approx(with_atrium, rel=0.05)


def test_no_cavity_or_no_mitral_plane_has_no_volume():
    assert simpson_volume(np.zeros((50, 50), np.uint8), VALUES) is None
    alone = np.where(draw() == 1, 1, 0).astype(np.uint8)
    assert simpson_volume(alone, (1, None, None)) is None


def test_a_bundle_without_a_left_ventricle_has_no_beats():
    finder = BeatFinder(LABELS[1:2])
    assert find_values(LABELS[1:2]) is None
    assert finder.add(0, 0.0, draw()) is None


def test_beats_are_found_at_the_frames_of_largest_and_smallest_area():
    finder = BeatFinder(LABELS)
    phases = np.arange(150) / 30  # 5 s of 1 beat a second, largest at whole seconds
    scale = 0.85 + 0.15 * np.cos(2 * np.pi * (phases - 0.2))
    beats = [
        beat
        for index, part in enumerate(scale)
        if (beat := finder.add(index, index / 30, draw(round(100 * part), round(50 * part))))
    ]
    assert len(beats) == 5
    for number, beat in enumerate(beats):
        assert abs(beat.ed_time_s - (number + 0.2)) <= 1.5 / 30
        assert abs(beat.es_time_s - (number + 0.7)) <= 1.5 / 30
        assert beat.fractional_area_change == pytest.approx(1 - 0.7**2, abs=0.02)
        assert beat.ejection_fraction == pytest.approx(1 - 0.7**3, abs=0.02)


def test_a_flicker_of_the_area_is_no_beat():
    rng = np.random.default_rng(0)
    finder = BeatFinder(LABELS)
    for index in range(90):
        part = 1 + 0.01 * rng.standard_normal()
        assert finder.add(index, index / 30, draw(round(100 * part), round(50 * part))) is None


@pytest.mark.parametrize(
    "times",
    [
        pytest.param(np.arange(300) / 30, id="a probe that moves slowly"),
        pytest.param(np.arange(300) / 150 + 3.0 * (np.arange(300) >= 90), id="lost frames"),
    ],
)
def test_an_area_that_falls_for_longer_than_a_heart_can_is_no_beat(times):
    finder = BeatFinder(LABELS)
    parts = 1 - 0.2 * np.sin(np.linspace(0, np.pi, 240)) ** 2
    parts = np.concatenate([np.full(30, 0.97), parts, np.full(30, 1.0)])
    beats = [
        finder.add(index, time_s, draw(round(100 * part), round(50 * part)))
        for index, (time_s, part) in enumerate(zip(times.tolist(), parts.tolist(), strict=True))
    ]
    assert not any(beats)


def test_ejection_fractions_of_experts_masks_are_those_of_hearts():
    if not CAMUS.is_dir():
        pytest.skip(f"{CAMUS} is not here: experts' masks of CAMUS are needed")
    fractions = []
    for folder in sorted(CAMUS.glob("patient*"))[:40]:
        masks = [
            np.ascontiguousarray(
                np.asarray(nibabel.load(folder / f"{folder.name}_4CH_{m}_gt.nii.gz").dataobj).T
            ).astype(np.uint8)
            for m in ("ED", "ES")
        ]
        high, low = (simpson_volume(mask, VALUES) for mask in masks)
        fractions.append(1 - low / high)
    assert len(fractions) == 40
    assert 0.4 < np.median(fractions) < 0.65
    assert min(fractions) > 0
