"""Frames over OpenIGTLink in, masks over OpenIGTLink out, measured by who sends and sees them."""

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from bedside.benchmarking.streams import RunLog, StreamRun, describe_times, keep_busy
from bedside.errors import WorkerError
from bedside.igtl import IgtlServer
from bedside.segment import Model
from bedside.stream import Counts, LiveStream, run_stream
from bedside.stream.event import Event
from bedside.stream.frames import view_frame
from bedside.stream.openigtlink import IgtlFrames, IgtlSink, open_igtl
from bedside.stream.queued import QueuedSink
from bedside.system.process_memory import resident_bytes

SIZE = (480, 640)
_WAIT_S = 30.0


def measure_wire(
    model: Model,
    frames: Sequence[np.ndarray],
    *,
    fps: float,
    seconds: float,
    deadline_ms: float = 33.0,
    competing: bool = False,
) -> StreamRun:
    """Have another process send frames of 640 x 480 over loopback, and look at their masks.

    Args:
        model: What segments them.
        frames: A film, (H, W), (C, H, W) or (H, W, C) each, played in a loop.
        fps: Frames a second.
        seconds: How long.
        deadline_ms: Time from the call that sends a frame to the arrival of its mask.
        competing: Whether another process is to keep one core busy meanwhile.

    Returns:
        The run, with latency, age and misses as the viewer has them.

    Raises:
        WorkerError: If the other process fails, or frames are neither seen nor counted.
    """
    count = max(1, round(fps * seconds))
    log = RunLog(count)
    with keep_busy() if competing else nullcontext(), _start_peer(frames, count, fps) as peer:
        begin = time.perf_counter()
        counts, dropped, rss_last = _play(model, peer, log, deadline_ms=deadline_ms)
        took_s = time.perf_counter() - begin
        seen = peer.ask()
    run = log.sum_up(
        fps=fps, competing=competing, seconds=took_s, counts=counts, deadline_ms=deadline_ms,
        rss_last=rss_last,
    )  # fmt: skip
    lost = {
        "sender": peer.lost, "source": dropped, "stream": counts.dropped,
        "sink": counts.processed - len(seen["frames"]),
    }  # fmt: skip
    return _as_seen(run, seen, lost, count)


def _play(
    model: Model, peer: "_Peer", log: RunLog, *, deadline_ms: float
) -> tuple[Counts, int, int]:
    """Segment what the other process sends; return what became of it, and resident memory."""
    with ExitStack() as stack:
        source = open_igtl(f"igtl://127.0.0.1:{peer.ask()['port']}")
        stack.callback(source.close)
        outlet = stack.enter_context(IgtlServer(0))
        sink = QueuedSink(IgtlSink(outlet.send, source.find), room=1)
        stack.callback(sink.close)

        def write(event: Event) -> None:
            log.write(event)
            sink.write(event)

        live = stack.enter_context(model.stream(deadline_ms=deadline_ms, on_event=write))
        peer.say(outlet.port)
        ender = threading.Thread(target=_end, args=(peer, source, live), daemon=True)
        ender.start()
        for _ in run_stream(live, source):
            pass
        ender.join()
        rss_last = resident_bytes()
        live.close()
        sink.close()
        _wait(lambda: not any(each.waiting for each in outlet.counts.values()))
        peer.say("")
        return live.counts, source.dropped, rss_last


def _as_seen(
    run: StreamRun, seen: dict[str, list[float]], lost: dict[str, int], count: int
) -> StreamRun:
    """A run with what the viewer has seen of it.

    Raises:
        WorkerError: If frames are neither seen nor counted.
    """
    masks, latency_ms = len(seen["frames"]), np.array(seen["latency_ms"])
    if sum(lost.values()) + masks != count or min(lost.values()) < 0:
        raise WorkerError(f"of {count} frames {masks} were seen, and lost were {lost}.")
    seconds = (np.array(seen["frames"]) / run.fps).astype(int)
    timeline_ms = np.zeros(int(count / run.fps) + 1)
    np.maximum.at(timeline_ms, seconds, latency_ms)
    return replace(
        run, wire="igtl", frames=count, processed=masks, dropped=count - masks, lost=lost,
        misses=int(np.count_nonzero(latency_ms > run.deadline_ms)),
        latency_ms=describe_times(seen["latency_ms"]), age_ms=describe_times(seen["age_ms"]),
        age_frames=describe_times(seen["age_frames"]),
        picture_ms=describe_times(seen["picture_ms"]),
        timeline_ms=tuple(timeline_ms.round(2).tolist()),
    )  # fmt: skip


class _Peer:
    """The other process.

    Attributes:
        lost: Frames that it could not send.
    """

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self.lost = 0

    def ask(self) -> dict[str, Any]:
        """Wait for its next line.

        Raises:
            WorkerError: If it has ended.
        """
        assert self._process.stdout is not None  # a pipe was asked for
        line = self._process.stdout.readline()
        if not line:
            raise WorkerError("the process that sends frames and sees masks has ended.")
        found: dict[str, Any] = json.loads(line)
        return found

    def say(self, value: object) -> None:
        """Send it a line; if it has ended, `ask` tells."""
        assert self._process.stdin is not None  # a pipe was asked for
        with suppress(BrokenPipeError):
            self._process.stdin.write(f"{value}\n")
            self._process.stdin.flush()


@contextmanager
def _start_peer(frames: Sequence[np.ndarray], count: int, fps: float) -> Iterator[_Peer]:
    """Start the other process; it is killed at the end of the block, if it has not ended."""
    film = np.stack([_enlarge(frame) for frame in frames])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "frames.npy")
        np.save(path, film)
        module = "bedside.benchmarking.wire_peer"
        command = [sys.executable, "-m", module, str(path), str(count), str(fps)]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True)
        try:
            yield _Peer(process)
        finally:
            process.kill()
            with suppress(BrokenPipeError):
                process.communicate()


def _enlarge(frame: np.ndarray) -> np.ndarray:
    """A frame as (C, 480, 640)."""
    rows = np.moveaxis(view_frame(frame), 0, -1)
    return view_frame(cv2.resize(rows, SIZE[::-1]))


def _end(peer: _Peer, source: IgtlFrames, live: LiveStream) -> None:
    """End the source when all that the other process has sent has come, or it has ended."""
    with suppress(WorkerError):  # which the last `ask` raises as well
        told = peer.ask()
        peer.lost = told["dropped"]
        _wait(lambda: live.counts.sent + source.dropped >= told["sent"] - told["dropped"])
    source.close()


def _wait(is_done: Callable[[], bool]) -> None:
    until = time.monotonic() + _WAIT_S
    while not is_done() and time.monotonic() < until:
        time.sleep(0.002)
