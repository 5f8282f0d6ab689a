"""The picture of the worst cases: both outlines can be told apart, in true proportions."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from oracle import LABELS, Oracle, write_camus, write_nifti
from PIL import Image

from bedside.datasets import Case, list_cases
from bedside.evaluation.cases import evaluate_cases
from bedside.evaluation.pictures import PREDICTED, write_worst_cases
from bedside.pipeline.protocol import Segmentation
from bedside.planning.colors import choose_color
from bedside.volume import Box, LabelMap

# Legend and captions show the colours of the structures too, but in larger patches than these.
CAPTION_PX, LEGEND_PX = 62, 84


class Fixed:
    """Finds what it is given, as an input of the evaluation."""

    def __init__(self, labels, structures=LABELS):
        self.spec = SimpleNamespace(labels=structures, regions=(), name="fixed")
        self._labels = labels

    def segment_sequence(self, sequence, *, force=False):
        box = Box(0, 0, *sequence.shape[2:])
        labels = LabelMap(self._labels, sequence.spacing_mm)
        return Segmentation(labels, {}, box, sequence.spacing_mm, ())


def draw(tmp_path, truth, predicted, *, structures=LABELS, spacing_mm=(1.0, 1.0)):
    """Write one case, draw it, and give the picture without its captions and its legend."""
    write_nifti(tmp_path / "image.nii.gz", np.full(truth.shape, 60, np.uint8),
                spacing_mm=spacing_mm)  # fmt: skip
    write_nifti(tmp_path / "truth.nii.gz", truth, spacing_mm=spacing_mm)
    case = Case("one", "one", images=(tmp_path / "image.nii.gz",), truth=tmp_path / "truth.nii.gz")
    segmenter = Fixed(predicted, structures)
    path = write_worst_cases(
        tmp_path / "worst.png",
        evaluate_cases(segmenter, [case]),
        segmenter=segmenter,
        cases=[case],
    )
    return np.asarray(Image.open(path))[CAPTION_PX:-LEGEND_PX]


def extent(picture, color):
    """Height and width of what has a colour."""
    found = np.nonzero((picture == color).all(axis=-1))
    return tuple(int(np.ptp(places)) + 1 for places in found)


def block(*, value=1, rows=(10, 30), columns=(10, 30), shape=(1, 60, 60)):
    labels = np.zeros(shape, np.uint8)
    labels[:, slice(*rows), slice(*columns)] = value
    return labels


def test_experts_and_prediction_can_be_told_apart(tmp_path):
    cases = list_cases(write_camus(tmp_path / "data", {"patient0001": (0, 3)}))
    oracle = Oracle()
    path = write_worst_cases(
        tmp_path / "worst.png",
        evaluate_cases(oracle, cases),
        segmenter=oracle,
        cases=cases,
        count=1,
    )
    picture = np.asarray(Image.open(path))[CAPTION_PX:-LEGEND_PX]
    for color in (*(label.color for label in LABELS), PREDICTED):
        assert (picture == color).all(axis=-1).sum() > 100


@pytest.mark.parametrize("color", [(240, 190, 60), (255, 255, 120), (200, 255, 200)])
def test_a_prediction_of_a_pale_structure_is_not_taken_for_the_experts_line(tmp_path, color):
    structure = (replace(LABELS[0], color=color),)
    picture = draw(tmp_path, block(), block(columns=(14, 34)), structures=structure)
    white = (picture == PREDICTED).all(axis=-1)
    assert white.sum() > 100
    # The prediction's right border stands alone: two thirds of it are white.
    column = np.flatnonzero(white.any(axis=0))[-1]
    line = picture[white[:, column].nonzero()[0][0] :, column]
    line = line[(line == PREDICTED).all(axis=-1) | (line == color).all(axis=-1)]
    assert 0.5 < (line == PREDICTED).all(axis=-1).mean() < 0.8


def test_where_both_agree_both_are_seen(tmp_path):
    picture = draw(tmp_path, block(), block(), structures=LABELS[:1])
    assert (picture == PREDICTED).all(axis=-1).sum() > 100
    assert (picture == LABELS[0].color).all(axis=-1).sum() > 300


def test_the_slice_with_the_most_wrong_pixels_is_shown(tmp_path):
    truth = np.zeros((3, 60, 60), np.uint8)
    truth[0, 5:7, 5:7] = 1  # missed whole: 4 pixels, all of them
    truth[1, 10:40, 10:40] = 1  # 300 of 900 pixels missed
    truth[2, 10:40, 10:40] = 1  # found
    predicted = truth.copy()
    predicted[0] = 0
    predicted[1, 10:20] = 0
    picture = draw(tmp_path, truth, predicted)
    height, width = extent(picture, PREDICTED)
    assert height / width == pytest.approx(20 / 30, abs=0.02)


def test_a_case_without_a_fault_shows_the_slice_with_most_in_it(tmp_path):
    truth = np.zeros((3, 60, 60), np.uint8)
    truth[1, 10:30, 10:50] = 1
    picture = draw(tmp_path, truth, truth)
    height, width = extent(picture, PREDICTED)
    assert height / width == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("spacing_mm", [(0.5, 1.5), (2.0, 0.5), (1.0, 1.2)])
def test_cases_are_shown_in_true_proportions(tmp_path, spacing_mm):
    picture = draw(tmp_path, block(), block(), spacing_mm=spacing_mm)
    height, width = extent(picture, PREDICTED)
    assert height / width == pytest.approx(spacing_mm[0] / spacing_mm[1], rel=0.03)


@pytest.mark.parametrize("inner", [1, 2])
def test_every_structure_of_experts_and_prediction_is_shown(tmp_path, inner):
    outer = 3 - inner
    truth = block(value=outer)
    truth[:, 20, 20] = inner
    predicted = block(value=outer)
    predicted[:, 50, 50] = inner
    picture = draw(tmp_path, truth, predicted)
    for label in LABELS:
        assert (picture == label.color).all(axis=-1).sum() >= 3


def test_scores_and_legend_of_many_structures_stay_within_the_picture(tmp_path):
    values = range(1, 14)
    structures = [
        replace(LABELS[0], value=value, name=f"organ number {value}", color=choose_color(value - 1))
        for value in values
    ]
    labels = np.zeros((1, 60, 60), np.uint8)
    for value in values:
        labels[0, 4 * value : 4 * value + 3, 10:30] = value
    write = draw(tmp_path, labels, labels, structures=structures)
    picture = np.asarray(Image.open(tmp_path / "worst.png"))
    # A patch of each colour in the legend, none over another, and text clear of the edges.
    legend = picture[-200:]
    for structure in structures:
        assert (legend == structure.color).all(axis=-1).sum() >= 100
    assert write.shape[1] == picture.shape[1]
    assert (np.ptp(picture[:, -6:].astype(int), axis=(0, 1)) == 0).all()
