import dataclasses

import numpy as np
import pytest

from bedside.bundle import read_bundle, shipped_bundles
from bedside.evaluation.comparison import Sample, compare_sessions
from bedside.evaluation.generated import make_samples
from bedside.runtime import open_session
from bedside.segment import Segmenter
from bedside.spec import CropCentre, Fit, Grey, ScalePercentile
from bedside.volume import ImageSequence
from models_for_tests import make_spec

SPEC = dataclasses.replace(
    make_spec(), preprocess=(Grey(), CropCentre(size_px=(64, 64)), Fit(), ScalePercentile())
)


class Painter:
    """A network that draws the same labels whatever it sees, with logits of 10 and 0."""

    backend, precision, threads, is_shared = "painter", "f32", 1, False

    def __init__(self, labels, scale=10.0):
        self.labels, self.scale = labels, scale

    def predict(self, tensor, out=None):
        coarse = self.labels[::2, ::2]
        return np.stack([(coarse == k) * self.scale for k in range(3)])[None].astype(np.float32)


def paint(columns_of_1, columns_of_2):
    labels = np.zeros((64, 64), int)
    labels[:32, :columns_of_1] = 1
    labels[32:, :columns_of_2] = 2
    return labels


def make_sample(truth=None):
    image = np.random.default_rng(0).integers(0, 255, (1, 64, 64)).astype(np.uint8)
    return Sample("x", ImageSequence((1, 1, 64, 64), lambda index: image), truth)


def test_losses_and_sizes_are_derived_by_hand():
    truth = paint(32, 32)[None].astype(np.uint8)
    compared = compare_sessions(
        SPEC,
        Painter(paint(32, 32)),
        {"same": Painter(paint(32, 32)), "other": Painter(paint(16, 40), scale=9.0)},
        [make_sample(truth)],
    )
    assert compared["same"].loss == 0
    assert compared["same"].worst_logit == 0
    first, second = compared["other"].structures
    # Half of 1 is found: 2 * 16 / (16 + 32); of 2 all and a quarter more: 2 * 32 / (32 + 40).
    assert (first.dice_reference, first.dice) == (1.0, pytest.approx(2 / 3))
    assert first.loss == pytest.approx(1 / 3)
    assert first.agreement == pytest.approx(2 / 3)
    assert first.size_change == pytest.approx(-0.5)
    assert second.loss == pytest.approx(1 - 64 / 72)
    assert second.size_change == pytest.approx(0.25)
    assert second.largest_size_change == pytest.approx(0.25)
    assert compared["other"].worst_logit == 10
    assert compared["other"].worst_logit_part == 1
    assert compared["other"].with_truth


def test_without_a_truth_the_reference_is_what_counts():
    compared = compare_sessions(
        SPEC, Painter(paint(32, 0)), {"other": Painter(paint(16, 0))}, [make_sample()] * 2
    )["other"]
    first, second = compared.structures
    assert (first.dice, first.loss) == (None, pytest.approx(1 / 3))
    assert (second.loss, second.size_change) == (0.0, None)
    assert (compared.cases, compared.with_truth) == (2, False)


def test_a_structure_that_is_not_there_counts_by_its_false_alarms():
    truth = paint(32, 0)[None].astype(np.uint8)
    drawing = Painter(paint(32, 8))
    samples = [make_sample(truth)] * 4
    one, two = compare_sessions(
        SPEC, Painter(paint(32, 0)), {"other": drawing}, samples
    )["other"].structures  # fmt: skip
    assert (one.dice, one.loss) == (1.0, 0.0)
    assert (two.dice_reference, two.dice, two.loss) == (None, None, 1.0)
    two = compare_sessions(SPEC, drawing, {"other": drawing}, samples)["other"].structures[1]
    assert two.loss == 0.0
    there = [make_sample(paint(32, 32)[None].astype(np.uint8)), *samples[:3]]
    found = compare_sessions(SPEC, Painter(paint(32, 32)), {"other": Painter(paint(32, 0))}, there)
    # Lost where it was, and no longer drawn where it was not.
    assert found["other"].structures[1].loss == 1.0


def test_no_samples_and_half_a_truth_are_refused():
    painter = Painter(paint(8, 8))
    with pytest.raises(ValueError, match="at least one sample"):
        compare_sessions(SPEC, painter, {"other": painter}, [])
    mixed = [make_sample(), make_sample(paint(8, 8)[None].astype(np.uint8))]
    with pytest.raises(ValueError, match="for all or for none"):
        compare_sessions(SPEC, painter, {"other": painter}, mixed)


@pytest.mark.parametrize("path", shipped_bundles(), ids=lambda path: path.stem)
def test_every_shipped_bundle_takes_what_is_generated_for_it(path):
    bundle = read_bundle(path)
    first, again = (next(make_samples(bundle.spec)) for _ in range(2))
    assert np.array_equal(first.sequence.decode(0), again.sequence.decode(0))
    segmenter = Segmenter(bundle.spec, open_session(bundle, precision="f32", threads=1))
    found = segmenter.segment_sequence(first.sequence).labels.array
    assert found.shape == (len(first.sequence), *first.sequence.shape[2:])
