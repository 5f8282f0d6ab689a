"""Live frames that the network was not made for are told, at a bounded cost."""

import numpy as np
import pytest

import bedside
from bedside.cli.demo import find_cine
from bedside.errors import ModalityError
from bedside.io.source import open_source
from bedside.pipeline.gate import GateVerdict
from bedside.stream.gate import SHARE, GateWatch
from makers import make_fan

FOREIGN = make_fan(12, 96, 128)


def push_all(model, frames):
    with model.stream(deadline_ms=1e4) as live:
        return [live.push(frame, index / 10) for index, frame in enumerate(frames)]


def is_told(event):
    return any("do not rely on its labels" in each for each in event.warnings)


@pytest.fixture(scope="module")
def cine():
    return list(open_source(find_cine()).sequence)[:12]


def test_foreign_frames_are_told_in_words_and_others_are_not(cine):
    with bedside.load("camus-4ch", precision="f32", threads=1) as model:
        events = push_all(model, [*cine, *FOREIGN])
        threshold = model.bundle.gate.threshold
    for event in events[:12]:
        assert not is_told(event)
        assert event.gate <= threshold
    for event in events[12:]:
        assert is_told(event)
        assert event.gate > threshold
        assert event.labels is not None
    assert [event.state for event in events if event.state != "live"] == ["reset"]
    assert "looks unlike apical four-chamber" in " ".join(events[-1].warnings)


def test_frames_are_refused_where_the_model_was_loaded_so(cine):
    with bedside.load("camus-4ch", precision="f32", threads=1, gate="refuse") as model:
        events = push_all(model, [*cine[:3], *FOREIGN[:3], *cine[:3]])
    assert [event.labels is not None for event in events] == [True] * 3 + [False] * 3 + [True] * 3
    assert "looks unlike" in events[4].reason


def test_without_a_gate_nothing_is_judged():
    with bedside.load("camus-4ch", precision="f32", threads=1, gate="off") as model:
        events = push_all(model, FOREIGN[:2])
    assert events[-1].gate is None
    assert not is_told(events[-1])


def test_judging_takes_no_more_than_its_share_of_the_time_of_the_network():
    watch = GateWatch(lambda verdict: [], cost_ms=10.0)
    judged = 0
    for index in range(400):
        is_judged = watch.is_due(index * 0.5)
        judged += is_judged
        watch.note(GateVerdict(0.5, "grain") if is_judged else None, index * 0.5, 4.0)
    assert judged * 10.0 <= SHARE * 400 * 4.0 + 10.0
    assert judged >= 0.9 * SHARE * 400 * 4.0 / 10.0


def test_the_median_counts_and_begins_anew_with_another_plan():
    def find_foreign(verdict):
        if verdict.distance > 5:
            raise ModalityError("foreign")
        return ["far"] if verdict.distance > 1 else []

    watch = GateWatch(find_foreign, cost_ms=0.1)
    told = [watch.note(GateVerdict(each, "grain"), 0.0, 1.0) for each in (0.5, 3.0, 3.0)]
    assert told == [[], [], ["far"]]
    assert watch.distance == 3.0
    watch.restart()
    assert watch.distance is None
    assert watch.is_due(0.0)
    with pytest.raises(ModalityError):
        watch.note(GateVerdict(np.inf, "grain"), 0.0, 1.0)
