"""A stream finds out beside its frames whether it is mirrored, tells the frame, and repeats it."""

import threading
import time
from dataclasses import replace

import pytest

from bedside.bundle import find_bundle, read_bundle
from bedside.pipeline.frames.marker import TURNED
from bedside.pipeline.segmenter import Segmenter
from bedside.stream.event import Event
from bedside.stream.live import LiveStream
from bedside.stream.marker import UNCHECKED
from bedside.stream.planner import CausalPlanner, Settled
from bedside.stream.record import EventFile, read_events, replay
from sided_network import SPEC, Sided, make_film

TOLD = "the view turned out to be mirrored left to right"


class HeldBack(Sided):
    """A network whose calls beside the frames wait until they are let go."""

    def __init__(self):
        self.let_go, self.called = threading.Event(), threading.Event()
        self.calls = 0

    def predict(self, tensor, out=None):
        if threading.current_thread().name.startswith("bedside marker"):
            self.called.set()
            assert self.let_go.wait(20)
            self.calls += 1
        return super().predict(tensor, out)


def plan(frames, **settings):
    planner = CausalPlanner(SPEC, predict=Sided().predict)
    found = []
    for index, frame in enumerate(frames):
        found.append(planner.plan_for(frame, index / 30, **settings))
        planner.add(frame, index / 30)
    return planner, found


def test_a_film_that_is_mirrored_is_turned_within_its_warm_up_and_told_once():
    planner, found = plan(make_film(20, mirrored=True))
    planner.close()
    assert UNCHECKED in found[0].plan.warnings
    assert [planned.reason for planned in found if planned.reason] == [TOLD]
    told = next(index for index, planned in enumerate(found) if planned.reason)
    assert told <= 15
    assert all(planned.plan.mirrored for planned in found[told:])
    assert found[-1].plan.warnings == (TURNED,)


def test_an_upright_film_gets_a_verdict_and_nothing_is_told():
    planner, found = plan(make_film(20))
    planner.close()
    assert planner.settled.verdicts == 1
    assert not any(planned.reason or planned.plan.mirrored for planned in found)
    assert found[-1].plan.warnings == ()


@pytest.fixture(scope="module")
def bundle():
    shipped = read_bundle(find_bundle("camus-4ch"))
    return replace(shipped, spec=SPEC, card=replace(shipped.card, precisions=()), gate=None)


def test_no_frame_waits_for_the_marker_and_its_frame_is_recorded(bundle, tmp_path):
    network, film, path = HeldBack(), list(make_film(20, mirrored=True)), tmp_path / "run.jsonl"
    events: list[Event] = []
    with EventFile(path) as file:

        def write(event):
            events.append(event)
            file.write(event)

        with LiveStream(bundle, Segmenter(SPEC, network), on_event=write) as live:
            for number in range(20):
                live.offer(film[number], number / 30)
                while live.take(5).frame != number:
                    pass
                time.sleep(0.005)
                if number == 14:
                    # All frames so far have their masks, though the check cannot go on.
                    assert network.called.is_set()
                    assert network.calls == 0
                    assert events[-1].verdicts == 0
                    network.let_go.set()
                    until = time.monotonic() + 20
                    while network.calls < 12 and time.monotonic() < until:
                        live._frames._planner.allow_calls(12)
                        time.sleep(0.002)
                    time.sleep(0.1)
    masks = [event for event in events if event.state != "stale"]
    assert [event.frame for event in masks if event.labels is not None] == list(range(20))
    told = next(event for event in masks if event.verdicts)
    assert told.frame >= 15
    assert (told.state, told.reason) == ("reset", TOLD)
    again = HeldBack()
    again.let_go.set()
    with LiveStream(bundle, Segmenter(SPEC, again)) as live:
        found = list(replay(read_events(path), film, live))
    assert [each.event.verdicts for each in found] == [event.verdicts for event in masks]
    assert all(each.is_same for each in found)


def test_a_frame_waits_for_what_had_taken_effect_and_for_nothing_else():
    film = make_film(20, mirrored=True)
    planner = CausalPlanner(SPEC, predict=Sided().predict)
    for index, frame in enumerate(film):
        settled = Settled(int(index >= 17), int(index >= 18))
        planned = planner.plan_for(frame, index / 30, settled=settled)
        planner.add(frame, index / 30)
        assert planner.settled == settled
        assert planned.plan.mirrored == (index >= 18)
    planner.close()
