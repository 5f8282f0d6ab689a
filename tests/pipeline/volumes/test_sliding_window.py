import threading

import numpy as np
import pytest

from bedside.errors import SpecError
from bedside.pipeline.volumes.sliding_window import (
    SlidingWindow,
    blend_weights,
    predict_slabs,
    predict_windows,
    window_origins,
)
from bedside.system.parallel import run_ahead


@pytest.mark.parametrize("size", [64, 65, 100, 111, 300])
@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.9])
def test_windows_cover_everything_and_share_at_least_the_overlap(size, overlap):
    origins = [low for (low,) in window_origins((size,), (64,), overlap=overlap)]
    assert origins[0] == 0
    assert origins[-1] == size - 64
    steps = np.diff(origins)
    assert (steps <= np.ceil(64 * (1 - overlap))).all()


@pytest.mark.parametrize("overlap", [-0.1, 1.0])
def test_an_overlap_without_meaning_is_refused(overlap):
    with pytest.raises(SpecError, match="overlap"):
        window_origins((10,), (4,), overlap=overlap)


def test_a_window_that_does_not_fit_is_refused():
    with pytest.raises(SpecError, match="does not fit"):
        window_origins((3,), (4,))


def pool(stride):
    def predict(tensor):
        assert tensor.flags.c_contiguous
        batch, channels, *sizes = tensor.shape
        shape = [batch, channels]
        for size in sizes:
            shape += [size // stride, stride]
        return tensor.reshape(shape).mean(axis=tuple(range(3, len(shape), 2)))

    return predict


@pytest.mark.parametrize("blend", ["gaussian", "constant"])
@pytest.mark.parametrize(("stride", "shape"), [(1, (9, 14, 11)), (2, (10, 14, 12)), (2, (22, 30))])
def test_a_network_that_changes_nothing_gives_back_its_input(blend, stride, shape):
    tensor = np.random.default_rng(0).random((2, *shape), dtype=np.float32)
    window = SlidingWindow((8,) * len(shape), stride, blend=blend)
    predict = pool(stride)
    found = predict_windows(predict, tensor, window)
    np.testing.assert_allclose(found, predict(tensor[None])[0], atol=1e-6)


@pytest.mark.parametrize("blend", ["gaussian", "constant"])
def test_a_constant_field_stays_constant(blend):
    found = predict_windows(
        lambda tensor: np.full_like(tensor, 3.25),
        np.zeros((1, 21, 33, 17), np.float32),
        SlidingWindow((8, 16, 8), blend=blend),
    )
    np.testing.assert_allclose(found, 3.25, rtol=1e-6)


def test_progress_ends_at_the_number_of_windows():
    seen = []
    predict_windows(
        pool(1),
        np.zeros((1, 16, 8), np.float32),
        SlidingWindow((8, 8), blend="constant"),
        on_window=lambda done, total: seen.append((done, total)),
    )
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_the_middle_of_a_window_weighs_most():
    weights = blend_weights((7, 9), "gaussian")
    assert weights.argmax() == np.ravel_multi_index((3, 4), (7, 9))
    assert weights.min() > 0


def test_a_network_that_runs_ahead_gives_the_same_logits(monkeypatch):
    monkeypatch.setattr("bedside.system.parallel.count_workers", lambda: 2)
    tensor = np.random.default_rng(0).normal(size=(1, 40, 24, 24)).astype(np.float32)
    window = SlidingWindow((16, 16, 16), stride=2)
    seen = []

    def predict(part):
        seen.append(threading.get_ident())
        return np.concatenate([part, -(part**2)], axis=1)[:, :, ::2, ::2, ::2]

    def read(inside):
        return tensor[(slice(None), *inside)]

    def run(how):
        slabs = predict_slabs(predict, read, tensor.shape[1:], window, run=how)
        return np.concatenate([slab.copy() for slab in slabs], axis=1)

    plain = run(map)
    assert set(seen) == {threading.get_ident()}
    seen.clear()
    np.testing.assert_array_equal(run(run_ahead), plain)
    assert len(set(seen)) == 1
    assert threading.get_ident() not in seen
