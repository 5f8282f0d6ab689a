"""A stream: exact counts, honest ages, and no frame that is an exception."""

import threading
import time
from dataclasses import replace

import numpy as np
import pytest

import bedside
from bedside.errors import BackendError, ClosedError, UsageError
from bedside.pipeline.segmenter import Segmenter
from bedside.runtime.contract import WrappedSession
from bedside.stream import LiveStream
from bedside.stream.protocol import ScaledFrame
from makers import make_fan

FRAMES = make_fan(40, 96, 128)


@pytest.fixture(scope="module")
def model():
    with bedside.load("camus-4ch", precision="f32", threads=1) as loaded:
        yield loaded


@pytest.fixture
def live(model):
    with model.stream(deadline_ms=1000) as stream:
        yield stream


class Gate(WrappedSession):
    """A network that waits until it is let go."""

    def __init__(self, session):
        super().__init__(session)
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Event()
        self.error = None

    def predict(self, tensor, out=None):
        self.entered.set()
        assert self.open.wait(60)
        if self.error:
            raise self.error
        return super().predict(tensor, out)

    def close(self):
        pass


@pytest.fixture
def gate(model):
    return Gate(model.segmenter.session)


@pytest.fixture
def gated(model, gate):
    only = replace(model.bundle, card=replace(model.bundle.card, precisions=()))
    with LiveStream(only, Segmenter(model.bundle.spec, gate), deadline_ms=1000) as stream:
        yield stream
        gate.open.set()


def take_mask(live):
    """The next event with a mask: before the first one, a slow machine has stale ones."""
    event = live.take(30)
    while event.labels is None:
        event = live.take(30)
    return event


def wait_until_done(live):
    while live.counts.unfinished:
        time.sleep(0.01)


def test_pushed_frames_have_labels_on_their_own_grid_and_exact_counts(live):
    for index, frame in enumerate(FRAMES[:6]):
        event = live.push(frame, index / 30)
        assert (event.frame, event.time_s, event.state) == (index, index / 30, "live")
        assert event.labels.shape == frame.shape
        assert event.labels.dtype == np.uint8
        assert set(event.measurements) == {"LV cavity", "LV myocardium", "Left atrium"}
        area = event.measurements["LV cavity"].area_px
        assert area == np.count_nonzero(event.labels == 1)
        assert event.age_ms >= event.stage_ms["network"] > 0
        counts = live.counts
        assert (counts.sent, counts.processed, counts.dropped) == (index + 1, index + 1, 0)


def test_labels_of_an_event_stay_as_they_are(live):
    first = live.push(FRAMES[0], 0.0)
    kept = first.labels.copy()
    for index in range(1, 5):
        live.push(FRAMES[index], index / 30)
    assert np.array_equal(first.labels, kept)


def test_a_frame_may_be_overwritten_once_it_is_handed_over(live):
    shared = FRAMES[0].copy()
    live.push(shared, 0.0)
    again = live.push(FRAMES[1], 0.1).labels
    with_shared = FRAMES[1].copy()
    live.offer(with_shared, 0.2)
    with_shared[:] = 255
    event = live.take(30)
    assert np.array_equal(event.labels, again)


@pytest.mark.parametrize(
    ("frame", "word"),
    [
        (None, "NoneType"),
        (b"not an image", "bytes"),
        (ValueError("broken stream"), "broken stream"),
        (np.full((96, 128), np.nan, np.float32), "NaN"),
        (np.zeros((5, 96, 128), np.uint8), "(5, 96, 128)"),
        (np.zeros((96, 0), np.uint8), "(1, 96, 0)"),
        (np.zeros((96, 128), complex), "complex"),
        (lambda: 1 / 0, "division"),
    ],
)
def test_a_frame_that_is_none_is_an_event_with_its_reason(live, frame, word):
    assert live.push(FRAMES[0], 0.0).labels is not None
    event = live.push(frame, 0.1)
    assert event.labels is None
    assert word in event.reason
    assert (live.counts.processed, live.counts.dropped, event.dropped) == (1, 1, 1)
    assert live.push(FRAMES[1], 0.2).labels.shape == (96, 128)


@pytest.mark.parametrize("time_s", [float("nan"), float("inf"), None, "now"])
def test_a_time_that_is_no_number_is_an_event(live, time_s):
    event = live.push(FRAMES[0], time_s)
    assert event.labels is None
    assert "time" in event.reason


def test_time_that_runs_backwards_is_one_reset_and_goes_on_from_there(live):
    live.push(FRAMES[0], 5.0)
    event = live.push(FRAMES[1], 4.0)
    assert (event.state, event.labels) == ("reset", None)
    assert "backwards" in event.reason
    assert live.push(FRAMES[2], 4.1).state == "live"


def test_a_repeated_frame_is_told_and_the_same_pixels_later_are_a_frame(live):
    live.push(FRAMES[0], 0.0)
    event = live.push(FRAMES[0].copy(), 0.0)
    assert (event.state, event.labels, event.reason) == ("live", None, "the frame is frame 0 again")
    other = live.push(FRAMES[1], 0.0)
    assert other.labels is None
    assert "its time is that of frame 0" in other.reason
    assert live.push(FRAMES[0], 0.1).labels is not None


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        (make_fan(1, 120, 100)[0], "size from 96 x 128 to 120 x 100"),
        (FRAMES[5].astype(np.uint16) * 200, "numbers from uint8 to uint16"),
        (np.repeat(FRAMES[5][..., None], 3, axis=2), "colour from 1 to 3"),
    ],
)
def test_frames_of_another_kind_are_one_reset_with_masks_of_their_size(live, changed, word):
    for index in range(3):
        live.push(FRAMES[index], index / 30)
    events = [live.push(changed, 1 + index / 30) for index in range(3)]
    assert [event.state for event in events] == ["reset", "live", "live"]
    assert word in events[0].reason
    assert {event.labels.shape for event in events} == {changed.shape[:2]}


def test_a_decoder_is_called_only_for_frames_that_are_not_dropped(gated, gate):
    called = []

    def make(index):
        def decode():
            called.append(index)
            return FRAMES[index]

        return decode

    gate.open.clear()
    gate.entered.clear()
    gated.offer(make(0), 0.0)
    assert gate.entered.wait(60)
    for index in range(1, 6):
        gated.offer(make(index), index / 30)
    counts = gated.counts
    assert (counts.sent, counts.dropped, counts.waiting, counts.in_flight) == (6, 4, 1, 1)
    gate.open.set()
    while gated.counts.unfinished:
        gated.take(1)
    assert called == [0, 5]


def test_offering_never_waits_and_the_latest_frame_wins(gated, gate):
    gate.open.clear()
    gate.entered.clear()
    gated.offer(FRAMES[0], 0.0)
    assert gate.entered.wait(60)
    for index in range(1, 30):
        gated.offer(FRAMES[index], index / 30)  # the network cannot answer meanwhile
    gate.open.set()
    frames = []
    while len(frames) < 2:
        event = gated.take(30)
        if event.labels is not None and event.frame not in frames:  # else it is told to be stale
            frames.append(event.frame)
    assert frames[-1] == 29
    assert gated.counts.processed == 2
    assert gated.counts.dropped == 28


def test_counts_add_up_at_every_moment_whoever_offers(live):
    stop, wrong = threading.Event(), []

    def watch():
        while not stop.is_set():
            counts = live.counts
            total = counts.processed + counts.dropped + counts.waiting + counts.in_flight
            wrong.extend(
                [counts] * (counts.sent != total or max(counts.waiting, counts.in_flight) > 1)
            )

    def offer(number):
        for index in range(50):
            frame = None if index % 7 == 3 else FRAMES[(index + number) % len(FRAMES)]
            live.offer(frame, time.perf_counter())

    def take():
        while not stop.is_set():
            live.take(0.01)

    threads = [threading.Thread(target=offer, args=(n,)) for n in range(4)]
    others = [threading.Thread(target=watch), threading.Thread(target=take)]
    for thread in (*threads, *others):
        thread.start()
    for thread in threads:
        thread.join()
    wait_until_done(live)
    stop.set()
    for thread in others:
        thread.join()
    counts = live.counts
    assert not wrong
    assert counts.sent == 200 == counts.processed + counts.dropped
    assert counts.processed > 0


def test_a_mask_is_stale_while_no_frame_comes(model):
    told = []
    with model.stream(deadline_ms=60, on_event=told.append) as live:
        assert live.take(0.0) is None
        live.offer(FRAMES[0], 0.0)
        first = take_mask(live)
        stale = live.take(30)
        assert stale.state == "stale"
        assert (stale.frame, stale.labels is first.labels) == (0, True)
        assert stale.age_ms >= live.stale_after_ms
        assert "no new mask" in stale.reason
        until = time.monotonic() + 30
        while told[-1].state != "stale" and time.monotonic() < until:
            time.sleep(0.01)
        assert told[-1].state == "stale"
        assert live.counts.processed == 1


def test_a_mask_is_stale_while_the_network_hangs(gated, gate):
    gated.offer(FRAMES[0], 0.0)
    take_mask(gated)
    gate.open.clear()
    gated.offer(FRAMES[1], 0.1)
    event = gated.take(30)
    assert (event.state, event.frame) == ("stale", 0)
    gate.open.set()


def test_it_takes_70_ms_at_most_until_a_mask_is_stale(model):
    with model.stream(deadline_ms=33) as live:
        assert live.stale_after_ms <= 100


def test_a_reset_that_nobody_took_is_told_with_the_next_event(gated):
    gated.offer(FRAMES[0], 0.0)
    take_mask(gated)
    for index in (1, 2):
        gated.offer(FRAMES[index][:, :100], index / 10)
        wait_until_done(gated)
    event = gated.take(30)
    assert (event.frame, event.state) == (2, "reset")
    assert "size" in event.reason


def test_a_failure_of_the_network_is_raised_where_events_are_taken(gated, gate):
    gate.error = BackendError("out of order")
    gated.offer(FRAMES[0], 0.0)
    wait_until_done(gated)
    time.sleep(0.05)
    with pytest.raises(BackendError, match="out of order"):
        gated.take(30)
    assert gated.counts.dropped == gated.counts.sent


def test_a_closed_stream_refuses_frames_and_leaves_the_model_open(model):
    live = model.stream()
    live.push(FRAMES[0], 0.0)
    live.close()
    live.close()
    for call in (live.push, live.offer):
        with pytest.raises(ClosedError):
            call(FRAMES[0], 1.0)
    assert live.take() is None
    assert model.segment(FRAMES[0]).labels.shape == (96, 128)


@pytest.mark.parametrize(
    ("name", "word"), [("acdc-sax", "before and after"), ("hippocampus", "whole")]
)
def test_a_bundle_of_more_than_one_frame_is_refused(name, word):
    with (
        bedside.load(name, precision="f32", threads=1) as model,
        pytest.raises(UsageError, match=word),
    ):
        model.stream()


@pytest.mark.parametrize(
    "settings", [{"deadline_ms": 0}, {"deadline_ms": float("nan")}, {"spacing_mm": (0.0, 1.0)}]
)
def test_settings_without_a_meaning_are_refused(model, settings):
    with pytest.raises(UsageError):
        model.stream(**settings)


def test_areas_and_lengths_have_a_scale_if_pixels_have(model):
    with model.stream(spacing_mm=(0.5, 0.5)) as live:
        found = live.push(FRAMES[0], 0.0).measurements["LV cavity"]
    assert found.area_cm2 == pytest.approx(found.area_px * 0.0025, abs=1e-4)
    assert found.length_mm == pytest.approx(found.length_px / 2, abs=0.02)


def test_the_mask_is_that_of_the_same_frames_in_a_file(model):
    film = FRAMES[:8]
    offline = model.segment(film).labels
    with model.stream(deadline_ms=1e4, sample=list(film)) as live:
        labels = [live.push(frame, index / 30).labels for index, frame in enumerate(film)]
    assert np.array_equal(labels, offline)


def test_a_frame_brings_the_distance_of_its_pixels_and_a_change_is_a_reset(live):
    def push(index, spacing_mm):
        return live.push(ScaledFrame(lambda: FRAMES[index], spacing_mm), index / 30)

    events = [push(0, (0.5, 0.5)), push(1, (0.500001, 0.5)), push(2, (1.0, 1.0)), push(3, None)]
    assert [each.state for each in events] == ["live", "live", "reset", "reset"]
    assert "1 x 1 mm, before 0.5 x 0.5 mm" in events[2].reason
    cavity = [each.measurements["LV cavity"] for each in events]
    scales = [each.area_cm2 and each.area_cm2 / each.area_px for each in cavity]
    assert scales == [pytest.approx(0.0025), pytest.approx(0.0025), pytest.approx(0.01), None]
    assert [each.length_mm is None for each in cavity] == [False, False, False, True]


def test_a_distance_of_pixels_does_not_hold_for_frames_of_another_size(model):
    larger = FRAMES[0].repeat(2, axis=0).repeat(2, axis=1)
    with model.stream(deadline_ms=1000, spacing_mm=(0.5, 0.5)) as stream:
        events = [
            stream.push(frame, index / 30)
            for index, frame in enumerate([FRAMES[0], larger, larger, FRAMES[0]])
        ]
    assert [each.state for each in events] == ["live", "reset", "live", "reset"]
    cavity = [each.measurements["LV cavity"] for each in events]
    scales = [each.area_cm2 and each.area_cm2 / each.area_px for each in cavity]
    assert scales == [pytest.approx(0.0025), None, None, pytest.approx(0.0025)]
    assert "unknown, before 0.5 x 0.5 mm" in events[1].reason
    said = [any("given for frames of 96 x 128" in text for text in e.warnings) for e in events]
    assert said == [False, True, True, False]
