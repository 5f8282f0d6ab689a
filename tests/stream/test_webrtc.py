"""Frames by WebRTC from a real peer on this machine, aiortc's own."""

import asyncio
import http.client
import threading

import numpy as np
import pytest

from bedside.errors import UsageError
from bedside.stream.sources import open_frames
from igtl_makers import wait_until

aiortc = pytest.importorskip("aiortc", reason="aiortc (bedside[webrtc]) receives WebRTC")
av = pytest.importorskip("av")


class Ball(aiortc.VideoStreamTrack):
    """A square that moves, with the number of its frame as its grey."""

    def __init__(self):
        super().__init__()
        self.sent = 0

    async def recv(self):
        pts, time_base = await self.next_timestamp()
        image = np.zeros((96, 128, 3), np.uint8)
        image[20:60, 10 + self.sent % 60 : 50 + self.sent % 60] = 200
        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        frame.pts, frame.time_base = pts, time_base
        self.sent += 1
        return frame


def post(port, body, *, method="POST", kind="application/sdp"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    connection.request(method, "/whip", body, {"Content-Type": kind})
    found = connection.getresponse()
    return found.status, found.read().decode()


class Sender:
    """A peer in a thread of its own."""

    def __init__(self, port):
        self._port, self.track = port, Ball()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._send()))
        self._thread.start()

    async def _send(self):
        peer = aiortc.RTCPeerConnection(aiortc.RTCConfiguration(iceServers=[]))
        peer.addTrack(self.track)
        await peer.setLocalDescription(await peer.createOffer())
        status, answer = await asyncio.to_thread(post, self._port, peer.localDescription.sdp)
        assert status == 201
        await peer.setRemoteDescription(aiortc.RTCSessionDescription(sdp=answer, type="answer"))
        while not self._stop.is_set():
            await asyncio.sleep(0.01)
        await peer.close()

    def stop(self):
        self._stop.set()
        self._thread.join()


@pytest.fixture
def source():
    opened = open_frames("webrtc://:0")
    yield opened.frames
    opened.close()


def find_place(picture):
    """How far the ball has moved."""
    return int((picture[40, :, 0] > 100).argmax()) - 10


def test_frames_come_by_webrtc_and_a_reader_that_is_slow_gets_the_latest(source):
    sender, coming = Sender(source.port), iter(source)
    try:
        first = next(coming)[0]()
        assert (first.shape, first.dtype) == ((96, 128, 3), np.dtype("u1"))
        assert first[30, 30].min() > 120
        begun = find_place(first)
        wait_until(lambda: source.dropped >= 20)  # nobody reads meanwhile
        # What is read next has come after those, and not after the first.
        assert (find_place(next(coming)[0]()) - begun) % 60 >= 15
    finally:
        sender.stop()
    told = next(found for found, _ in coming if isinstance(found, Exception))
    assert "has gone" in str(told)
    again = Sender(source.port)
    try:
        assert next(coming)[0]().shape == (96, 128, 3)
    finally:
        again.stop()
    assert source.connects == 2


def test_what_is_no_offer_is_refused(source):
    assert post(source.port, "v=0\r\nnonsense")[0] == 400
    assert post(source.port, "v=0", kind="text/plain")[0] == 400
    assert post(source.port, "", method="GET")[0] == 405
    assert post(source.port, "x" * 70_000)[0] == 400


@pytest.mark.parametrize("address", ["webrtc://host:80", "webrtc://:x", "webrtc://:1/path"])
def test_what_is_no_address_to_wait_at_is_refused(address):
    with pytest.raises(UsageError, match="address"):
        open_frames(address)
