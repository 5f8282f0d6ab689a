"""Sinks in threads of their own: what is slow delays nothing, and each event is counted."""

import threading

import numpy as np
import pytest

import bedside
from bedside.errors import OutputError
from bedside.stream import Event
from bedside.stream.queued import QueuedSink, SinkCounts
from bedside.stream.record import EventFile, read_events
from igtl_makers import WAIT_S, wait_until
from makers import make_fan


class Gate:
    """A sink that writes nothing until it is let go."""

    def __init__(self, error=None):
        self.written, self.is_closed, self.error = [], False, error
        self.entered, self.open = threading.Event(), threading.Event()

    def write(self, event):
        self.entered.set()
        assert self.open.wait(WAIT_S)
        if self.error:
            raise self.error
        self.written.append(event.frame)

    def close(self):
        assert not self.is_closed
        self.is_closed = True


def make_event(number):
    return Event(number, number / 30, "live")


def fill(sink, gate, count):
    """Write events; the first is in the sink's hands before the second comes."""
    sink.write(make_event(0))
    assert gate.entered.wait(WAIT_S)
    for number in range(1, count):
        sink.write(make_event(number))


def test_a_slow_sink_gets_the_latest_and_the_others_are_counted():
    gate = Gate()
    sink = QueuedSink(gate, room=2)
    fill(sink, gate, 7)
    assert sink.counts == SinkCounts(offered=7, written=0, dropped=4, waiting=3)
    gate.open.set()
    sink.close()
    sink.close()
    assert gate.written == [0, 5, 6]
    assert gate.is_closed
    assert sink.counts == SinkCounts(offered=7, written=3, dropped=4)


def test_a_recording_loses_nothing_as_its_writer_waits():
    gate = Gate()
    sink = QueuedSink(gate, room=2, lossless=True)
    writer = threading.Thread(target=fill, args=(sink, gate, 30))
    writer.start()
    wait_until(lambda: sink.counts.waiting == 3)
    assert sink.counts == SinkCounts(offered=3, waiting=3)
    gate.open.set()
    writer.join()
    sink.close()
    assert gate.written == list(range(30))
    assert sink.counts == SinkCounts(offered=30, written=30)


@pytest.mark.parametrize("lossless", [False, True])
def test_what_a_sink_raises_is_raised_where_events_are_written_and_counts_stay_exact(lossless):
    gate = Gate(OutputError("disk full"))
    sink = QueuedSink(gate, room=3, lossless=lossless)
    fill(sink, gate, 3)
    gate.open.set()
    wait_until(lambda: sink.counts.dropped == 3)
    with pytest.raises(OutputError, match="disk full"):
        sink.write(make_event(3))
    assert sink.counts == SinkCounts(offered=4, dropped=4)
    sink.close()
    assert gate.is_closed


def test_what_a_sink_raises_last_is_raised_at_its_close():
    gate = Gate(OutputError("disk full"))
    sink = QueuedSink(gate, room=3)
    fill(sink, gate, 1)
    gate.open.set()
    with pytest.raises(OutputError, match="disk full"):
        sink.close()


def test_a_stream_goes_on_while_a_sink_hangs(tmp_path):
    gate, path = Gate(), tmp_path / "run.jsonl"
    slow, record = QueuedSink(gate, room=1), QueuedSink(EventFile(path), room=4, lossless=True)

    def write(event):
        slow.write(event)
        record.write(event)

    frames = make_fan(8, 96, 128)
    with (
        bedside.load("camus-4ch", precision="f32", threads=1) as model,
        model.stream(on_event=write) as live,
    ):
        events = [live.push(frame, index / 30) for index, frame in enumerate(frames)]
        assert live.counts.processed == 8
    assert slow.counts.written == 0
    gate.open.set()
    slow.close()
    record.close()
    assert slow.counts.written + slow.counts.dropped == 8
    found = read_events(path)
    assert [each["frame"] for each in found] == list(range(8))
    assert [each["labels"] for each in found] == [each.to_mapping()["labels"] for each in events]
    assert np.all([each.labels.any() for each in events])


def test_a_recording_on_a_full_disk_is_an_error_with_its_name():
    with pytest.raises(OutputError, match="/dev/full: No space"), EventFile("/dev/full") as file:
        file.write(make_event(0))
