"""Frames over OpenIGTLink by another process: each is seen or counted, and its end is an error."""

import numpy as np
import pytest

import bedside
from bedside.benchmarking import wire
from bedside.errors import WorkerError
from makers import make_fan


@pytest.fixture(scope="module")
def model():
    with bedside.load("camus-4ch", precision="f32", threads=1) as loaded:
        yield loaded


def test_each_frame_is_seen_or_counted_where_it_was_lost(model):
    run = wire.measure_wire(model, list(make_fan(6, 48, 64)), fps=50, seconds=0.6)
    assert (run.wire, run.frames) == ("igtl", 30)
    assert run.processed + sum(run.lost.values()) == 30
    assert run.dropped == sum(run.lost.values())
    assert set(run.lost) == {"sender", "source", "stream", "sink"}
    assert run.processed > 0
    assert 0 < run.latency_ms["p50"] <= run.latency_ms["max"]
    assert 0 <= run.age_frames["p50"] <= run.age_frames["max"] < 30
    assert max(run.timeline_ms) == pytest.approx(run.latency_ms["max"], abs=0.01)


def test_a_process_that_ends_too_early_is_an_error(model, monkeypatch):
    monkeypatch.setattr(wire, "_enlarge", lambda frame: np.zeros((2, 4, 5, 3), np.uint8))
    with pytest.raises(WorkerError, match="has ended"):
        wire.measure_wire(model, list(make_fan(2, 48, 64)), fps=50, seconds=0.2)
