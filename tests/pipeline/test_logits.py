"""Labels between logits are the first of the largest of all classes, interpolated everywhere."""

import cv2
import numpy as np
import pytest

from bedside.pipeline.logits import find_place, find_place_at, most_likely, softmax

SHAPE = (31, 44)
PLACES = {
    "whole": find_place((190, 203), begin=(0, 0), size=SHAPE),
    "half": find_place((15, 22), begin=(0, 0), size=SHAPE),
    "part": find_place((97, 120), begin=(3, 5), size=(24, 35)),
    "fractions": find_place((51, 49), begin=(1.25, 0.5), size=(28.25, 42.875)),
    "uneven": find_place_at(np.linspace(0, 30, 80) ** 1.01, np.linspace(0, 43, 77), SHAPE),
}


def make_logits(kind):
    rng = np.random.default_rng(len(kind))
    noise = rng.normal(size=(9, *SHAPE)).astype(np.float32)
    smooth = 8 * np.stack([cv2.GaussianBlur(plane, (0, 0), 3) for plane in noise])
    return {
        "smooth": smooth,
        "noise": noise,
        # Every value is one of few, so that classes are equal at logits and between them.
        "ties": np.round(smooth),
        # Classes whose difference is lost in the rounding of an interpolation.
        "close": np.nextafter(np.repeat(smooth[:1], 9, 0), rng.choice([-9, 9], (9, 1, 1))),
        "flat": np.zeros_like(noise),
    }[kind].astype(np.float32)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", ["smooth", "noise", "ties", "close", "flat"])
def test_labels_are_the_first_of_the_largest_interpolated(kind, place):
    logits, kept = make_logits(kind), make_logits(kind)
    placed = np.stack([PLACES[place](plane) for plane in logits])
    np.testing.assert_array_equal(most_likely(logits, PLACES[place]), placed.argmax(axis=0))
    np.testing.assert_array_equal(logits, kept)


@pytest.mark.parametrize("place", PLACES)
def test_a_plane_is_written_to_where_it_is_asked_for(place):
    plane = make_logits("noise")[0]
    out = np.empty(PLACES[place].shape, np.float32)
    assert PLACES[place](plane, out) is out
    np.testing.assert_array_equal(out, PLACES[place](plane))


@pytest.mark.parametrize("classes", [1, 2, 5])
def test_softmax_is_that_of_double_precision(classes):
    logits = np.random.default_rng(3).normal(0, 30, (classes, 7, 9)).astype(np.float32)
    chances = np.exp(logits.astype(np.float64) - logits.max(axis=0))
    chances /= chances.sum(axis=0)
    largest = np.empty((7, 9), np.float32)
    assert softmax(logits, largest=largest) is largest
    np.testing.assert_allclose(logits, chances, rtol=0, atol=3e-7)
    np.testing.assert_array_equal(largest, logits.max(axis=0))
