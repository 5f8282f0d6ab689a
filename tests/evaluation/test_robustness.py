"""Planted artefacts, and the table of what they cost."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from oracle import LABELS, Oracle, write_camus

from bedside.datasets import list_cases
from bedside.errors import FormatError
from bedside.evaluation.planted import ARTEFACTS, Artefact, list_artefacts, plant_artefact
from bedside.evaluation.robustness import evaluate_robustness
from bedside.evaluation.robustness_report import PAGE, PICTURE, write_robustness
from bedside.volume import ImageSequence
from sector_makers import make_sector


def make_scan(dtype=np.uint8):
    """A sector of 2 frames, brighter to the right, its labels, and 0.5 mm a pixel."""
    ramp = np.linspace(100, 200, 96)
    frames = np.stack([ramp * make_sector(96, apex=(-4.0, 47.5))] * 2).astype(dtype)
    truth = np.zeros((2, 96, 96), np.uint8)
    truth[:, 40:60, 40:60] = 1
    return ImageSequence.from_array(frames, spacing_mm=(0.5, 0.5), modality="US"), truth


@pytest.mark.parametrize("artefact", ARTEFACTS, ids=lambda each: each.name)
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_an_artefact_is_the_same_each_time_and_leaves_its_image_alone(artefact, dtype):
    scan, truth = make_scan(dtype)
    before = [frame.copy() for frame in scan]
    one, two, other = (
        plant_artefact(artefact, scan, truth, name=name, seed=seed)
        for name, seed in (("a", 0), ("a", 0), ("b", 1))
    )
    assert all((frame == old).all() for frame, old in zip(scan, before, strict=True))
    spoilt, labels = one
    assert spoilt.decode(0).dtype == dtype
    assert labels.shape == (2, *spoilt.shape[2:])
    assert labels.dtype == np.uint8
    assert all((a == b).all() for a, b in zip(spoilt, two[0], strict=True))
    assert other[0].shape == spoilt.shape
    assert spoilt.shape != scan.shape or any(
        (a != b).any() for a, b in zip(spoilt, scan, strict=True)
    )


def test_a_shadow_is_as_dark_and_wide_as_its_name_says_and_meets_a_structure():
    scan, truth = make_scan()
    [shadow] = [each for each in ARTEFACTS if each.name == "shadow of 15 deg"]
    spoilt, labels = plant_artefact(shadow, scan, truth, name="a", seed=0)
    assert (labels == truth).all()
    kept = spoilt.decode(0)[0] / np.maximum(scan.decode(0)[0], 1)
    dark = (kept < 0.6) & (scan.decode(0)[0] > 0)
    assert kept[dark].min() == pytest.approx(0.2, abs=0.01)
    assert (dark & (truth[0] > 0)).any()
    rows, columns = np.nonzero(dark)
    angle = np.degrees(np.arctan2(columns - 47.5, rows + 4.0))
    assert np.ptp(angle[rows > 60]) == pytest.approx(15, abs=2)


def test_labels_move_with_the_image_and_keep_their_place_in_mm():
    scan, truth = make_scan()
    for name, factor in (("0.65 times the pixels", 0.65), ("1.5 times the pixels", 1.5)):
        [resample] = [each for each in ARTEFACTS if each.name == name]
        spoilt, labels = plant_artefact(resample, scan, truth, name="a", seed=0)
        assert spoilt.shape[2] == round(factor * 96)
        assert spoilt.spacing_mm == pytest.approx((0.5 * 96 / spoilt.shape[2],) * 2)
        assert labels.mean() == pytest.approx(truth.mean(), rel=0.08)
    [mirror] = [each for each in ARTEFACTS if each.name == "mirrored"]
    _, labels = plant_artefact(mirror, scan, truth, name="a", seed=0)
    assert (labels == truth[..., ::-1]).all()


def test_only_artefacts_of_the_modality_are_planted():
    assert {each.name for each in list_artefacts("US")} >= {"speckle 0.5", "mirrored"}
    assert "uneven coil" in {each.name for each in list_artefacts("MR")}
    assert not any("shadow" in each.name for each in list_artefacts("CT"))


class Fragile(Oracle):
    """An oracle that reads the shift from the brightest pixel, and refuses a dark image."""

    def __init__(self):
        super().__init__()
        self.spec = SimpleNamespace(
            labels=LABELS, regions=(), name="oracle", input=SimpleNamespace(modality="US")
        )

    def segment_sequence(self, sequence, *, force=False):
        if sequence.decode(0).max() < 150:
            raise FormatError("too dark.")
        return super().segment_sequence(sequence)


def brighten(picture, rng):
    """Make the oracle move its squares by 2 of 10 columns."""
    frames = picture.frames.copy()
    frames[:, :, 0, 0] += 2 / 255
    return type(picture)(frames, picture.truth)


def darken(picture, rng):
    return type(picture)(0.5 * picture.frames, picture.truth)


def test_losses_are_paired_and_refusals_counted(tmp_path):
    names = [f"patient000{number}" for number in range(1, 9)]
    cases = list_cases(write_camus(tmp_path / "data", dict.fromkeys(names, (0, 1))))
    planted = (Artefact("moved", brighten), Artefact("dark", darken))
    found = evaluate_robustness(Fragile(), cases, artefacts=planted)
    assert [interval.mean for interval in found.clean] == pytest.approx([0.95, 0.95])
    moved, dark = found.artefacts
    assert [loss.mean for loss in moved.loss] == pytest.approx([0.2, 0.2])
    assert moved.loss[0].low == pytest.approx(0.2)
    assert (moved.large, moved.refused, moved.warned) == (1, 0, 0)
    assert (dark.refused, dark.loss[0].mean, dark.large) == (1, None, 0)
    names = write_robustness(
        tmp_path / "out", found, segmenter=Fragile(), cases=cases, about={"bundle": "x"}, title="T"
    )
    assert PICTURE not in names  # of planted artefacts that are not in the table
    page = (tmp_path / "out" / PAGE).read_text()
    assert "| moved" in page
    assert "0.200 (0.200 to 0.200)" in page
    assert "100 %" in page
    written = json.loads((tmp_path / "out" / "robustness.json").read_text())
    assert written["artefacts"][0]["trials"][0]["dice"] == pytest.approx([0.8, 0.8])
    assert (tmp_path / "out" / "robustness.svg").read_text().count("<circle") == 2 + 2
