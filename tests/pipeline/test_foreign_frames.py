"""A film of one view in most frames, and of another, or of nothing, in some."""

import numpy as np
import pytest

import bedside
from bedside.cli.demo import find_cine
from bedside.io.source import open_source


@pytest.fixture(scope="module")
def film():
    """Seven frames of a real four-chamber view, (7, H, W, 3)."""
    sequence = open_source(find_cine()).sequence
    return np.stack([np.moveaxis(sequence.decode(index), 0, -1) for index in range(0, 28, 4)])


@pytest.fixture(scope="module")
def model():
    with bedside.load("camus-4ch", precision="f32", threads=1) as loaded:
        yield loaded


def judge(model, frames):
    result = model.segment(frames, modality="US")
    return [text for text in result.warnings if "frames that were judged" in text], result


def test_a_film_of_one_view_has_no_warning(model, film):
    assert judge(model, film)[0] == []


@pytest.mark.parametrize("other", ["mirrored", "black"])
def test_frames_of_another_view_are_named_although_most_are_of_the_bundles(model, film, other):
    turned = {"mirrored": film[:, :, ::-1], "black": film * 0}
    mixed = np.concatenate([film[:5], turned[other][5:]])
    (warning,), result = judge(model, mixed)
    assert "2 of 7 frames that were judged (6, 7, counted from 1)" in warning
    assert not any(found.trusted for found in result.confidence.values())
