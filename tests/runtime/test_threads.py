"""What the `Session` contract says of threads, over every backend and what stands on it."""

import threading

import numpy as np
import pytest
import torch

from bedside.errors import ClosedError, InputError
from bedside.evaluation.comparison import _Checking, _Recording
from bedside.runtime import BACKENDS, open_graph
from bedside.runtime.flip_tta import FlipTTASession
from bedside.runtime.table import graph_of
from bedside.segment import Segmenter
from bedside.spec import (
    Clahe,
    Closing,
    DropSmall,
    FillHoles,
    Fit,
    Grey,
    KeepLargest,
    LocalCrf,
    ScalePercentile,
    ZScore,
)
from bedside.training.session import TorchSession
from models_for_tests import make_model, make_noise
from threads_for_tests import (
    SIZES,
    call_together,
    count_foreign,
    make_clouds,
    make_deployment,
    make_network,
    make_tensors,
)
from volume_makers import make_scan

WAYS = [
    (backend.name, precision)
    for backend in BACKENDS
    for precision in backend.load().native_precisions()
    if graph_of(precision) == "f32"
]
WAYS_2_3 = [
    pytest.param(spatial_dims, backend, precision, id=f"{spatial_dims} axes, {backend} {precision}")
    for spatial_dims in SIZES
    for backend, precision in WAYS
]


def open_network(spatial_dims, backend="auto", precision="f32", *, threads=1):
    return open_graph(
        make_network(spatial_dims), backend=backend, precision=precision, threads=threads
    )


def deploy(spatial_dims):
    """Every kind of step that could keep something from one frame to the next."""
    return make_deployment(
        spatial_dims,
        (Grey(), Clahe(tiles=4), Fit(), ScalePercentile()) if spatial_dims == 2 else (ZScore(),),
        refine=(LocalCrf(),) if spatial_dims == 2 else (),
        postprocess=(Closing(radius_px=1), DropSmall(min_px=3), KeepLargest(), FillHoles()),
    )


@pytest.mark.parametrize(("spatial_dims", "backend", "precision"), WAYS_2_3)
def test_many_threads_get_the_logits_of_their_own_tensors(spatial_dims, backend, precision):
    session = open_network(spatial_dims, backend, precision)
    assert count_foreign(session.predict, make_tensors(spatial_dims)) == 0


@pytest.mark.parametrize("backend", [backend.name for backend in BACKENDS])
def test_batches_and_threads_within_a_call_change_nothing(backend):
    session = open_network(2, backend, threads=2)
    tensors = make_tensors(2, count=10)
    batches = [np.concatenate(tensors[index : index + 3]) for index in range(8)]
    assert count_foreign(session.predict, batches, rounds=1) == 0


@pytest.mark.parametrize("backend", [backend.name for backend in BACKENDS])
def test_a_session_may_be_closed_while_threads_call_it(backend):
    tensors = make_tensors(2, count=8)
    alone = [open_network(2, backend).predict(tensor) for tensor in tensors]
    session = open_network(2, backend)
    done = []

    def call(tensor):
        try:
            logits = session.predict(tensor)
        except ClosedError:
            return None
        done.append(1)
        if len(done) == 10:
            session.close()
        return logits

    found = call_together(call, tensors)
    assert all(logits is None or np.array_equal(logits, alone[i]) for i, logits in found)
    assert 10 <= len(done) < len(found)


@pytest.mark.parametrize("backend", [backend.name for backend in BACKENDS])
def test_threads_write_into_arrays_of_their_own(backend):
    session, tensors = open_network(2, backend), make_tensors(2)
    local = threading.local()

    def call(tensor):
        if not hasattr(local, "out"):
            local.out = np.empty((1, 4, *SIZES[2]), np.float32)
        return session.predict(tensor, local.out).copy()

    assert count_foreign(call, tensors) == 0


@pytest.mark.parametrize("backend", [backend.name for backend in BACKENDS])
def test_a_call_that_is_refused_leaves_the_others_theirs(backend):
    session = open_network(2, backend)

    def call(tensor):
        with pytest.raises(InputError, match="NaN or infinite"):
            session.predict(tensor * np.float32(np.nan))
        return session.predict(tensor)

    assert count_foreign(call, make_tensors(2), rounds=1) == 0


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_a_mirrored_session_is_as_good(spatial_dims):
    session = FlipTTASession(open_network(spatial_dims), range(spatial_dims))
    assert count_foreign(session.predict, make_tensors(spatial_dims, count=8), rounds=1) == 0


def test_a_model_of_torch_is_as_good():
    session = TorchSession(make_model(), torch.device("cpu"))
    images = [make_noise(seed=seed) for seed in range(8)]
    assert count_foreign(session.predict, images, rounds=1) == 0


@pytest.mark.parametrize(("backend", "precision"), WAYS)
def test_many_threads_get_the_labels_of_their_own_frames(backend, precision):
    segmenter = Segmenter(deploy(2), open_network(2, backend, precision))
    frames = make_clouds(8, 1, 60, 90)
    plan = segmenter.plan(make_scan(frames[:, 0]))
    found = count_foreign(
        lambda frame: segmenter.segment_frame(frame, plan).labels, list(frames), rounds=1
    )
    assert found == 0


@pytest.mark.parametrize(("spatial_dims", "backend", "precision"), WAYS_2_3)
def test_many_threads_get_the_labels_of_their_own_images(spatial_dims, backend, precision):
    segmenter = Segmenter(deploy(spatial_dims), open_network(spatial_dims, backend, precision))
    arrays = make_clouds(8, 2, 40, 50) if spatial_dims == 2 else make_clouds(8, 10, 24, 30)

    def segment(array):
        return segmenter.segment_sequence(make_scan(array)).labels.array

    assert count_foreign(segment, list(arrays), rounds=1) == 0


def test_what_is_reported_of_an_image_is_of_that_image():
    segmenter = Segmenter(deploy(2), open_network(2))
    arrays = list(make_clouds(8, 2, 40, 50))

    def report(array):
        found = segmenter.segment_sequence(make_scan(array))
        return found.changes, found.warnings, found.region

    alone = [report(array) for array in arrays]
    together = call_together(report, arrays, rounds=1)
    assert all(found == alone[index] for index, found in together)


def test_logits_are_compared_with_those_of_the_same_tensor_in_whatever_order_they_come():
    session, tensors = open_network(2), make_tensors(2, count=4)
    recording = _Recording(session)
    for tensor in tensors:
        recording.predict(tensor)
    checking = _Checking(session, recording.logits)
    call_together(checking.predict, tensors[::-1], rounds=1)
    assert checking.worst == 0
    twice = _Checking(_Doubling(session), recording.logits)
    call_together(twice.predict, tensors, rounds=1)
    assert twice.worst == max(np.abs(logits).max() for logits in recording.logits.values())


class _Doubling:
    backend, precision, threads, is_shared = "doubling", "f32", 1, False

    def __init__(self, session):
        self._session = session

    def predict(self, tensor, out=None):
        return 2 * self._session.predict(tensor)
