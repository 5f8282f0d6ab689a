"""Random fields: beside plain loops over pixels, and what any of them must do."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedside.pipeline.refine import guide_of, refine_local, refine_logits
from bedside.segment import Segmenter
from bedside.spec import (
    DeploymentSpec,
    InputSpec,
    LevelSpec,
    LocalCrf,
    ModelSpec,
    ScaleRange,
)
from makers import LABELS
from tolerances import FLOAT32_CHANCE_ATOL
from volume_makers import make_scan

STEPS = [LocalCrf()]


def chances(logits):
    raised = np.exp(logits - logits.max(axis=0))
    return raised / raised.sum(axis=0)


def make_scene(size=24, classes=3, *, noise=1.2, seed=0):
    """Noisy logits of discs, and an image that shows the discs."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size] / size - 0.5
    squares = rows**2 + columns**2
    truth = (squares < 0.12).astype(int) + (squares < 0.03)
    guide = np.clip(0.1 + 0.35 * truth + rng.normal(0, 0.03, truth.shape), 0, 1)
    logits = np.stack([2.0 * (truth == value) for value in range(classes)])
    logits = logits + rng.normal(0, noise, logits.shape)
    return logits.astype(np.float32), guide.astype(np.float32), truth


def local_by_loops(logits, guide, step):
    """The local field in float64, pixel by pixel."""
    _, height, width = logits.shape
    unary = logits.astype(float)
    ordered = np.sort(unary, axis=0)
    undecided = ordered[-1] - ordered[-2] <= step.weight
    total = unary.copy()
    for distance in step.dilations:
        seen, total = chances(total), unary.copy()
        for row, column in np.argwhere(undecided):
            votes, norm = 0, 0
            for down in (-distance, 0, distance):
                for across in (-distance, 0, distance):
                    place = row + down, column + across
                    inside = 0 <= place[0] < height and 0 <= place[1] < width
                    if not inside or (down, across) == (0, 0):
                        continue
                    unlike = float(guide[place]) - float(guide[row, column])
                    weight = np.exp(-0.5 * unlike**2 / step.sigma**2) + 1e-6
                    votes = votes + weight * seen[:, *place]
                    norm += weight
            total[:, row, column] += step.weight * votes / norm
    return total


@pytest.mark.parametrize("noise", [0.3, 1.2])
def test_the_local_field_is_that_of_loops_over_pixels(noise):
    logits, guide, _ = make_scene(noise=noise)
    found = refine_local(logits, guide, LocalCrf(), 1)
    expected = local_by_loops(logits, guide, LocalCrf())
    assert np.abs(chances(found) - chances(expected)).max() < FLOAT32_CHANCE_ATOL


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.step)
def test_a_field_brings_noisy_classes_nearer_to_what_the_image_shows(step):
    logits, guide, truth = make_scene(48)
    refined = refine_logits(logits, guide[None, None], [step], stride=1)
    before, after = ((x.argmax(axis=0) == truth).mean() for x in (logits, refined))
    assert after > before + 0.1


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.step)
@given(seed=st.integers(0, 1000))
def test_a_field_leaves_its_input_alone_and_the_names_of_classes_do_not_matter(step, seed):
    logits, guide, _ = make_scene(10, seed=seed)
    before = logits.copy(), guide.copy()
    refined = refine_logits(logits, guide[None, None], [step], stride=1)
    assert (logits == before[0]).all()
    assert (guide == before[1]).all()
    assert refined.shape == logits.shape
    assert refined.dtype == np.float32
    order = [2, 0, 1]
    other = refine_logits(logits[order], guide[None, None], [step], stride=1)
    np.testing.assert_allclose(chances(other), chances(refined)[order], atol=FLOAT32_CHANCE_ATOL)


def test_what_no_vote_can_change_is_not_touched():
    logits, guide, _ = make_scene()
    sure = logits.copy()
    sure[0, :, :12] += 30
    refined = refine_local(sure, guide, LocalCrf(), 1)
    np.testing.assert_array_equal(refined[:, :, :12], sure[:, :, :12])
    assert (refined[:, :, 12:] != sure[:, :, 12:]).any()
    certain = np.stack([np.full((5, 5), 9.0), np.zeros((5, 5))]).astype(np.float32)
    assert (refine_local(certain, guide[:5, :5], LocalCrf(), 1) == certain).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (3, 2)])
@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.step)
def test_the_smallest_images_are_refined_too(step, shape):
    logits = np.random.default_rng(0).normal(0, 0.5, (2, *shape)).astype(np.float32)
    refined = refine_logits(logits, np.zeros((1, 1, *shape), np.float32), [step], stride=1)
    assert np.isfinite(refined).all()


def test_the_image_is_seen_on_the_grid_of_the_logits_and_its_range_does_not_matter():
    rng = np.random.default_rng(0)
    tensor = rng.normal(0, 5, (1, 3, 8, 12)).astype(np.float32)
    guide = guide_of(tensor, (4, 6))
    expected = tensor[0, 1].reshape(4, 2, 6, 2).mean(axis=(1, 3))
    expected = (expected - expected.min()) / np.ptp(expected)
    np.testing.assert_allclose(guide, expected, atol=1e-5)


class Brightness:
    """A network that calls bright what is above one half."""

    backend, precision, threads = "test", "f32", 1

    def predict(self, tensor):
        return np.concatenate([np.full_like(tensor, 0.5), tensor], axis=1)


@pytest.mark.parametrize("step", [LocalCrf(weight=20)])
def test_a_field_works_on_logits_before_labels_are_made_of_them(step):
    image = np.zeros((64, 64), np.uint8)
    image[10:40, 10:50] = image[55, 55] = 150
    model = ModelSpec("hybrid", 1, 2, levels=(LevelSpec("conv", 1, 1),), logit_stride=1)
    found = []
    for refine in ((), (step,)):
        spec = DeploymentSpec(
            "bright", "1", "bright", InputSpec("US", 1, (64, 64)), LABELS[:1], (ScaleRange(),),
            model, refine=refine,
        )  # fmt: skip
        result = Segmenter(spec, Brightness()).segment_sequence(make_scan(image[None]))
        found.append(result.labels.array[0])
    np.testing.assert_array_equal(found[0], image > 0)
    assert found[1][55, 55] == 0
    assert found[1][15:35, 15:45].all()
