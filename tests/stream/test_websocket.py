"""Viewers of a stream over WebSocket, by the client of the websockets library."""

import json
import socket
import zlib
from contextlib import nullcontext

import numpy as np
import pytest

from bedside.errors import UsageError
from bedside.stream import Event, websocket
from bedside.stream.event import checksum
from bedside.stream.websocket import WebSocketSink
from igtl_makers import WAIT_S, wait_until

client = pytest.importorskip("websockets.sync.client")
exceptions = pytest.importorskip("websockets.exceptions")


@pytest.fixture
def sink():
    opened = WebSocketSink(0, origins=["https://ward.example"], max_viewers=2)
    yield opened
    opened.close()


def connect(sink, **settings):
    return client.connect(f"ws://127.0.0.1:{sink.port}", close_timeout=0.1, **settings)


def make_event(number, size=(48, 64), **changes):
    rng = np.random.default_rng(number)
    labels = rng.integers(0, 255, size, np.uint8)  # cannot be deflated
    return Event(number, number / 30, "live", **{"labels": labels, **changes})


def balanced(counts):
    return counts.offered == counts.sent + counts.dropped + counts.waiting


def test_a_viewer_gets_events_as_json_and_masks_as_bytes(sink):
    with connect(sink) as viewer:
        wait_until(lambda: sink.viewers == 1)
        event = make_event(3)
        sink.write(event)
        told = json.loads(viewer.recv(WAIT_S))
        assert (told["frame"], told["state"]) == (3, "live")
        labels = np.frombuffer(zlib.decompress(viewer.recv(WAIT_S)), np.uint8)
        np.testing.assert_array_equal(labels.reshape(told["labels"]["shape"]), event.labels)
        assert checksum(labels) == told["labels"]["crc32"]
        sink.write(make_event(4, labels=None, reason="too dark"))
        assert json.loads(viewer.recv(WAIT_S))["reason"] == "too dark"
        wait_until(lambda: sink.counts[0].sent == 2)
        assert balanced(sink.counts[0])


def test_a_viewer_that_does_not_read_loses_the_earlier_and_holds_up_no_other(sink):
    with connect(sink, max_queue=1) as slow, connect(sink) as fast:
        wait_until(lambda: sink.viewers == 2)
        for number in range(40):
            sink.write(make_event(number, (480, 640)))
            assert json.loads(fast.recv(WAIT_S))["frame"] == number
            fast.recv(WAIT_S)
        wait_until(lambda: sink.counts[1].sent == 40)
        counts = sink.counts[0]
        assert balanced(counts)
        assert counts.offered == 40
        assert counts.dropped > 0
        frames = []
        while not frames or frames[-1] != 39:  # the latest comes, once it reads
            message = slow.recv(WAIT_S)
            if isinstance(message, str):
                frames.append(json.loads(message)["frame"])
        assert frames == sorted(set(frames))
        slow.recv(WAIT_S)
        wait_until(lambda: sink.counts[0].waiting == 0)
        assert (sink.counts[0].sent, sink.counts[0].dropped) == (len(frames), 40 - len(frames))


def test_a_viewer_that_goes_is_counted_and_the_next_one_gets_a_number_of_its_own(sink):
    with connect(sink) as viewer:
        wait_until(lambda: sink.viewers == 1)
        viewer.send("ignored")
    wait_until(lambda: sink.viewers == 0)
    sink.write(make_event(0))
    with connect(sink) as viewer:
        wait_until(lambda: sink.viewers == 1)
        sink.write(make_event(1))
        assert json.loads(viewer.recv(WAIT_S))["frame"] == 1
    assert list(sink.counts) == [0, 1]
    assert (sink.counts[0].offered, sink.counts[1].offered) == (0, 1)


def test_more_viewers_than_the_most_are_refused(sink):
    with connect(sink), connect(sink):
        wait_until(lambda: sink.viewers == 2)
        with connect(sink) as third, pytest.raises(exceptions.ConnectionClosedError, match="1013"):
            third.recv(WAIT_S)


@pytest.mark.parametrize(
    ("origin", "may_connect"),
    [
        ("http://localhost:8000", True),
        ("https://ward.example", True),
        ("https://other.example", False),
        ("http://localhost.other.example", False),
    ],
)
def test_scripts_of_other_pages_may_not_look(sink, origin, may_connect):
    refused = pytest.raises(exceptions.InvalidStatus, match="403")
    with nullcontext() if may_connect else refused, connect(sink, origin=origin):
        wait_until(lambda: sink.viewers == 1)


def test_viewers_get_what_waits_when_a_stream_ends_and_its_end(sink):
    with connect(sink) as viewer:
        wait_until(lambda: sink.viewers == 1)
        sink.write(make_event(7))
        sink.close()
        assert json.loads(viewer.recv(WAIT_S))["frame"] == 7
        viewer.recv(WAIT_S)
        with pytest.raises(exceptions.ConnectionClosed):
            viewer.recv(WAIT_S)
    sink.write(make_event(8))
    assert (sink.counts[0].offered, sink.counts[0].sent) == (1, 1)


HANDSHAKE = b"""GET / HTTP/1.1\r
Host: x\r
Upgrade: websocket\r
Connection: Upgrade\r
Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r
Sec-WebSocket-Version: 13\r
\r
"""


@pytest.mark.parametrize("is_closed", [False, True])
def test_a_viewer_that_takes_nothing_is_cut_off_and_holds_up_no_close(sink, monkeypatch, is_closed):
    monkeypatch.setattr(websocket, "_SEND_S", 60.0 if is_closed else 0.2)
    with socket.create_connection(("127.0.0.1", sink.port)) as dead:
        dead.sendall(HANDSHAKE)
        wait_until(lambda: sink.viewers == 1)
        for number in range(40):  # more than the system takes in its place
            sink.write(make_event(number, (480, 640)))
        if is_closed:
            sink.close()
        wait_until(lambda: sink.viewers == 0)
    counts = sink.counts[0]
    assert counts.waiting == 0 < counts.dropped  # it may be cut off before all are offered
    assert balanced(counts)


def test_a_port_that_is_taken_is_refused(sink):
    with pytest.raises(UsageError, match=f"cannot listen at 127.0.0.1:{sink.port}"):
        WebSocketSink(sink.port)
