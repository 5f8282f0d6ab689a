"""Video from addresses, by a server on this machine that ends, falls silent, or is gone."""

import http.server
import io
import socket
import threading
import time
from contextlib import contextmanager

import numpy as np
import pytest

from bedside.errors import FormatError, UsageError
from bedside.stream.network import NetworkFrames, _Backlog
from bedside.stream.sources import open_frames
from igtl_makers import WAIT_S
from ports_for_tests import find_port

av = pytest.importorskip("av")

COUNT = 40


def encode(format_, *, noise=0):
    """Frames that grow brighter."""
    file, rng = io.BytesIO(), np.random.default_rng(0)
    with av.open(file, "w", format=format_) as container:
        options = {"tune": "zerolatency", "x264-params": "keyint=10:scenecut=0"}
        video = container.add_stream("libx264", rate=30, options=options)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for number in range(COUNT):
            pixels = np.full((48, 64, 3), 40 + 4 * number, np.uint8)
            pixels += rng.integers(0, noise + 1, pixels.shape, np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(video.encode())
    return file.getvalue()


@pytest.fixture(scope="module")
def live_bytes():
    return encode("mpegts")


class Server:
    """Sends the same bytes to each peer, and then closes the connection, or falls silent."""

    def __init__(self, data, *, is_silent=False):
        self._data, self._is_silent = data, is_silent
        self._done = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self):
        while not self._done.is_set():
            peer, _ = self._listener.accept()
            with peer:
                peer.sendall(self._data)
                if self._is_silent:
                    self._done.wait(WAIT_S)

    def close(self):
        self._done.set()
        socket.create_connection(self._listener.getsockname()).close()
        self._thread.join()
        self._listener.close()


@contextmanager
def served(data, **settings):
    server = Server(data, **settings)
    try:
        yield server
    finally:
        server.close()


def take_until(frames, enough):
    """What comes, up to the first that is enough."""
    found = []
    until = time.monotonic() + WAIT_S
    for frame, time_s in frames:
        found.append((frame, time_s))
        assert time.monotonic() < until
        if enough(frame):
            return found
    raise AssertionError("it has ended")


def is_told(word):
    return lambda frame: isinstance(frame, FormatError) and word in str(frame)


def test_a_connection_that_ends_is_told_and_made_again(live_bytes):
    with served(live_bytes) as server:
        source = NetworkFrames(server.address)
        coming = iter(source)
        first = take_until(coming, is_told("was lost: it has ended. Connecting again"))
        frames = [frame for frame, _ in first[:-1]]
        assert len(frames) == COUNT
        levels = [frame().mean() for frame in frames]
        assert levels == pytest.approx([40 + 4 * number for number in range(COUNT)], abs=3)
        assert frames[0]().shape == (48, 64, 3)
        again = take_until(coming, lambda frame: not isinstance(frame, Exception))
        assert [str(frame) for frame, _ in again[:-1]] == [f"{server.address} is connected again."]
        times = [time_s for _, time_s in first + again]
        assert times == sorted(times)
        assert source.connects == 2
        source.close()
        assert not [frame for frame, _ in coming if not isinstance(frame, Exception)][1:]


def test_a_silent_connection_is_lost(live_bytes):
    with served(live_bytes, is_silent=True) as server:
        source = NetworkFrames(server.address, silent_s=0.5)
        found = take_until(source, is_told("was lost: nothing came for 0.5 s"))
        assert COUNT - 2 <= len(found) - 1 <= COUNT


def test_after_a_damaged_frame_those_up_to_a_key_frame_are_left_out():
    data = bytearray(encode("mpegts", noise=40))
    middle = len(data) // 188 // 2 * 188
    del data[middle : middle + 188]
    with served(bytes(data)) as server:
        source = NetworkFrames(server.address)
        found = [frame for frame, _ in take_until(source, is_told("was lost"))][:-1]
    wrong = [index for index, frame in enumerate(found) if isinstance(frame, Exception)]
    assert wrong
    assert all("is damaged" in str(found[index]) for index in wrong)
    assert len(found) + source.skipped == COUNT
    levels = [frame().mean() for frame in found if not isinstance(frame, Exception)]
    steps = np.round(np.diff(levels) / 4)
    assert (steps >= 1).all()
    assert levels[-1] == pytest.approx(60 + 4 * (COUNT - 1), abs=4)


def test_a_first_connection_that_fails_is_an_error_without_the_password():
    with pytest.raises(FormatError, match="brings no video: Connection refused") as error:
        next(iter(NetworkFrames(f"tcp://me:secret@127.0.0.1:{find_port()}")))
    assert "secret" not in str(error.value)
    with pytest.raises(UsageError, match="expected rtsp"):
        NetworkFrames("file:///etc/passwd")


def test_sound_alone_is_no_video():
    file = io.BytesIO()
    with av.open(file, "w", format="mpegts") as container:
        sound = container.add_stream("mp2", rate=48_000, layout="mono")
        for number in range(20):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1152), np.int16), layout="mono")
            frame.rate, frame.pts = 48_000, 1152 * number
            container.mux(sound.encode(frame))
        container.mux(sound.encode())
    with (
        served(file.getvalue()) as server,
        pytest.raises(FormatError, match="brings no video: it has no video"),
    ):
        next(iter(NetworkFrames(server.address)))


def test_a_playlist_names_no_files_of_this_machine(tmp_path):
    film = tmp_path / "film.ts"
    film.write_bytes(encode("mpegts"))
    text = f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:1,\nfile://{film}\n#EXT-X-ENDLIST\n"
    with published(text.encode(), "list.m3u8") as address, pytest.raises(FormatError):
        next(iter(NetworkFrames(address)))


@contextmanager
def published(data, name):
    """A file by HTTP."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/{name}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_file_at_an_address_is_played_at_its_rate_and_ends():
    with published(encode("matroska"), "film.mkv") as address:
        opened = open_frames(address)
        found = list(opened.frames)
        opened.close()
    assert not [frame for frame, _ in found if isinstance(frame, Exception)]
    assert len(found) == COUNT
    assert found[-1][1] >= (COUNT - 1) / 30


def play(backlog, frames):
    """Which packets are left out, of (sent, read, is_key)."""
    return [backlog.note(sent_s, read_s, is_key=key) for sent_s, read_s, key in frames]


def test_what_is_read_in_time_is_never_left_out_whatever_the_jitter_and_the_drift():
    rng = np.random.default_rng(0)
    sent = np.arange(0, 3600, 1 / 30)
    read = 5e5 + 1.0001 * sent + rng.uniform(0, 0.2, len(sent))
    read[5000:5040] = read[5040]  # the network stood still for more than a second
    keys = np.arange(len(sent)) % 30 == 0
    assert not any(play(_Backlog(), zip(sent, read, keys, strict=True)))


def test_what_comes_later_and_later_is_left_out_up_to_a_key_frame():
    backlog, now, number, left_out = _Backlog(), 100.0, 0, []
    while number < 900:  # decoding takes 50 ms a frame of 33, reading 1 ms
        sent = number / 30
        now = max(now + 0.001, 100 + sent)
        skips = backlog.note(sent, now, is_key=number % 30 == 0)
        now += 0 if skips else 0.05
        left_out.append(skips)
        assert now - 100 - sent < 1.5
        number += 1
    assert 200 < sum(left_out) < 600
    ends = [index for index in range(1, 900) if left_out[index - 1] and not left_out[index]]
    assert ends
    assert not any(index % 30 for index in ends)


def test_a_clock_of_the_sender_that_jumps_is_got_used_to():
    backlog = _Backlog()
    frames = [(number / 30, number / 30, number % 30 == 0) for number in range(300)]
    jumped = [(sent - 50, read + 10, key) for sent, read, key in frames]
    assert not any(play(backlog, frames))
    skips = play(backlog, jumped)
    assert any(skips)
    assert not any(skips[150:])
