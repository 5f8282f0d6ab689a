"""Live events tell how far each mask is to be trusted, and bound what is measured on it."""

import json
from dataclasses import replace

import numpy as np
import pytest

from bedside.bundle import find_bundle, read_bundle
from bedside.pipeline.confidence import ConfidenceEstimator
from bedside.pipeline.segmenter import Segmenter
from bedside.spec.confidence import Confidence, StructureConfidence, StructureModel, Tails
from bedside.stream.heart import BeatFinder
from bedside.stream.live import LiveStream
from bedside.stream.measure import measure_frame
from makers import LABELS
from sided_network import SPEC, Sided, make_film


def make_confidence(structure, *, least_dice=0.5, **tails):
    """A calibration that predicts a Dice of 0.9 for any mask: an expected error of 0.12."""
    model = StructureModel(
        structure, ("lost",), (0.0,), (1.0,), (0.0,), (0.0,), (0.0,), (0.9,), Tails(1.0, 0.5),
        least_dice, tails,
    )  # fmt: skip
    return Confidence((model,), (), 0.9, "patients", 40, 80)


def push(confidence):
    shipped = read_bundle(find_bundle("camus-4ch"))
    bundle = replace(shipped, spec=SPEC, card=replace(shipped.card, precisions=()), gate=None)
    segmenter = Segmenter(SPEC, Sided(), confidence=confidence)
    with LiveStream(bundle, segmenter, spacing_mm=(0.5, 0.5)) as live:
        return live.push(next(iter(make_film(1))), 0.0)


def test_an_event_has_confidence_and_intervals_and_so_has_its_json():
    event = push(make_confidence("square", area=Tails(1.0, 2.0), diameter=Tails(0.5, 0.5)))
    assert event.confidence["square"] == StructureConfidence(0.9, 0.78, 0.96, trusted=True)
    found = event.measurements["square"]
    assert set(found.intervals) == {"area_px", "area_cm2", "length_px", "length_mm"}
    for name in ("area_px", "area_cm2"):
        value = getattr(found, name)
        assert found.intervals[name] == pytest.approx((0.88 * value, 1.24 * value), abs=1e-4)
    assert found.intervals["length_mm"] == pytest.approx(
        (0.94 * found.length_mm, 1.06 * found.length_mm), abs=1e-3
    )
    told = json.loads(json.dumps(event.to_mapping()))
    assert told["confidence"]["square"]["predicted_dice"] == 0.9
    assert told["measurements"]["square"]["intervals"]["area_px"] == list(
        found.intervals["area_px"]
    )


def test_a_mask_that_is_not_to_be_trusted_is_warned_of():
    event = push(make_confidence("square", least_dice=0.95))
    assert not event.confidence["square"].trusted
    assert any("do not trust this structure" in each for each in event.warnings)


def test_without_a_calibration_there_are_no_intervals():
    event = push(None)
    assert event.confidence == {}
    assert event.measurements["square"].intervals == {}


def test_a_structure_that_is_not_there_has_no_interval():
    estimator = ConfidenceEstimator(make_confidence("LV cavity", area=Tails(1, 1)), ["LV cavity"])
    nothing = np.zeros((8, 8), np.uint8)
    found = measure_frame(nothing, LABELS, spacing_mm=None, sure={}, estimator=estimator)
    assert not any(each.intervals for each in found.values())


def test_the_change_of_a_beat_is_bounded_by_the_worse_of_its_two_masks():
    name = LABELS[0].name
    confidence = make_confidence(name, fractional_area_change=Tails(1.0, 1.0))
    finder = BeatFinder(LABELS, estimator=ConfidenceEstimator(confidence, [name]))
    beats = []
    for index, side in enumerate((30, 40, 36, 32, 28, 24, 26, 30, 34)):
        labels = np.zeros((64, 64), np.uint8)
        labels[:side, :side] = LABELS[0].value
        dice = 0.7 if side == 24 else 0.9
        sure = {name: StructureConfidence(dice, 0.0, 1.0, trusted=True)}
        beats.append(finder.add(index, index / 10, labels, sure))
    beat = next(each for each in beats if each)
    change = beat.fractional_area_change
    assert change == pytest.approx(1 - 0.6**2)
    assert beat.intervals == {
        "fractional_area_change": pytest.approx((change - 0.32, change + 0.32), abs=1e-4)
    }
