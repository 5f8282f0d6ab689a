"""Calibration of a confidence on made-up fans: what it takes, what it writes, what it refuses."""

import dataclasses

import numpy as np
import pytest

from bedside.datasets import list_cases
from bedside.errors import DataError
from bedside.evaluation.calibration import Image, calibrate, list_drawn
from bedside.evaluation.planted import plant_artefact
from bedside.evaluation.planted_chance import CHANCE_ARTEFACTS, choose_artefacts
from bedside.pipeline.confidence import STATISTICS
from bedside.segment import Segmenter, open_segmenter
from bedside.spec import Fit, Grey, ScalePercentile
from bedside.volume import ImageSequence
from models_for_tests import make_bundle, make_spec
from runs_for_tests import make_camus


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """9 patients with a fan at each of two phases."""
    return list_cases(make_camus(tmp_path_factory.mktemp("fans"), patients=9))


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory):
    """A network with fresh weights, and steps for fans."""
    bundle = make_bundle(tmp_path_factory.mktemp("bundle"))
    spec = dataclasses.replace(make_spec(), preprocess=(Grey(), Fit(), ScalePercentile()))
    with open_segmenter(bundle, backend="openvino", precision="f32").session as session:
        yield Segmenter(spec, session)


def test_a_calibration_is_the_same_each_time_and_knows_its_units(segmenter, cases):
    found = calibrate(segmenter, cases)
    assert found == calibrate(segmenter, cases)
    assert (found.units, found.unit, found.scans) == (9, "patients", ())
    assert found.images > 2 * len(cases)
    assert all("area" in model.measurement_tails for model in found.frames)


def test_training_cases_change_weights_and_are_not_counted_as_units(segmenter, cases):
    alone = calibrate(segmenter, cases)
    helped = calibrate(segmenter, cases, training=cases[:6])
    assert (helped.units, helped.images, helped.training_units) == (9, alone.images, 3)
    assert alone.training_units == 0
    assert [each.weights for each in helped.frames] != [each.weights for each in alone.frames]


def test_fewer_than_8_units_are_refused_with_their_number(segmenter, cases):
    with pytest.raises(DataError, match="14 cases of 7 patients"):
        calibrate(segmenter, cases[:14])


def image(name: str, artefact: str, *, true: int, drawn: int, both: int) -> Image:
    """A frame with one structure of so many pixels."""
    sums = np.ones((1, 1, len(STATISTICS)))
    return Image(name, name[:2], artefact, sums, np.array([[[both, true, drawn]]]))


def test_dice_areas_and_their_change_are_those_of_the_counts():
    images = [
        image("p1_ED", "", true=100, drawn=80, both=72),
        image("p1_ES", "", true=60, drawn=60, both=60),
        image("p1_ES", "blur", true=60, drawn=20, both=20),
    ]
    first, second, blurred = list_drawn(images, 0, scans=False)
    assert first.dice == pytest.approx(2 * 72 / 180)
    assert first.measured["area"] == (80, 100)
    assert first.measured["fractional_area_change"] == pytest.approx((0.25, 0.4))
    assert second.measured == {"area": (60, 60)}
    assert (first.clean, blurred.clean) == (True, False)


def test_slices_of_a_scan_count_together():
    slices = dataclasses.replace(
        image("p1", "", true=0, drawn=0, both=0),
        sums=np.ones((2, 1, len(STATISTICS))),
        counts=np.array([[[10, 20, 10]], [[0, 0, 20]]]),
    )
    (scan,) = list_drawn([slices], 0, scans=True)
    assert scan.dice == pytest.approx(2 * 10 / 50)
    assert scan.measured == {"volume": (30, 20)}
    assert [each.dice for each in list_drawn([slices], 0, scans=False)] == [
        pytest.approx(2 * 10 / 30), 0,
    ]  # fmt: skip


@pytest.mark.parametrize("artefact", CHANCE_ARTEFACTS, ids=lambda artefact: artefact.name)
def test_an_artefact_changes_the_image_and_keeps_its_grid(artefact):
    before = np.random.default_rng(0).integers(0, 256, (1, 1, 96, 96), dtype=np.uint8)
    truth = np.zeros((1, 96, 96), np.uint8)
    truth[:, 30:60, 30:60] = 1
    film = ImageSequence.from_array(before)
    sequence, expected = plant_artefact(artefact, film, truth, name="a", seed=0)
    again, _ = plant_artefact(artefact, film, truth, name="a", seed=0)
    after = np.stack(list(sequence))
    assert (after.shape, after.dtype, expected.shape) == (before.shape, before.dtype, truth.shape)
    assert (after != before).any()
    np.testing.assert_array_equal(after, np.stack(list(again)))


def test_a_modality_has_its_artefacts_only():
    found = choose_artefacts("MR", "a", count=99)
    assert found
    assert not [each for each in found if each.modalities == ("US",)]
    assert choose_artefacts("US", "a", count=3) == choose_artefacts("US", "a", count=3)
