"""Frames played against the clock: what is late, dropped, stale, and how old masks are."""

import subprocess
import sys
import time
from array import array
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

import cv2
import numpy as np

from bedside.segment import Model
from bedside.stream import Counts, Event, run_stream
from bedside.stream.protocol import paced
from bedside.system.process_memory import resident_bytes

_BURN = "while True: pass"
_QUANTILES = {"p50": 50, "p95": 95, "p99": 99, "p999": 99.9, "max": 100}


@dataclass(frozen=True)
class StreamRun:
    """One run.

    Attributes:
        fps: Frames a second that were sent.
        competing: Whether another process kept one core busy.
        seconds: How long it took.
        frames: Frames that were sent.
        processed: Frames that were segmented.
        dropped: Frames that were not.
        misses: Masks that came after the deadline.
        deadline_ms: The deadline.
        latency_ms: From the arrival of a frame to its mask: "p50", "p95", "p99", "p999", "max".
        age_ms: Age of the mask that is there, just before it is replaced by the next one.
        stage_ms: Median of each stage.
        stale: Times that a mask was told to be stale.
        resets: Frames that cannot be compared with those before.
        steps: Steps of the ladder: the frame and what was told.
        rss_mb: Resident memory after the first tenth of the run, in 2**20 bytes.
        rss_drift_mb: How much it grew from there to the end.
        timeline_ms: Latest mask of each second, in ms.
        wire: Protocol by which frames came and masks went, as another process saw it; "" if none.
        age_frames: By the wire: frames sent after that of a mask, when the mask arrives.
        picture_ms: By the wire: from sending a frame until both its mask and itself have arrived.
        lost: By the wire: frames without a mask by where they were dropped and counted.
    """

    fps: float
    competing: bool
    seconds: float
    frames: int
    processed: int
    dropped: int
    misses: int
    deadline_ms: float
    latency_ms: dict[str, float]
    age_ms: dict[str, float]
    stage_ms: dict[str, float]
    stale: int
    resets: int
    steps: tuple[str, ...]
    rss_mb: float
    rss_drift_mb: float
    timeline_ms: tuple[float, ...] = field(repr=False)
    wire: str = ""
    age_frames: dict[str, float] = field(default_factory=dict)
    picture_ms: dict[str, float] = field(default_factory=dict)
    lost: dict[str, int] = field(default_factory=dict)


def measure_stream(
    model: Model,
    frames: Sequence[np.ndarray],
    *,
    fps: float,
    seconds: float,
    deadline_ms: float = 33.0,
    competing: bool = False,
) -> StreamRun:
    """Play frames over and over against the clock.

    Args:
        model: What segments them.
        frames: A film, played in a loop.
        fps: Frames a second.
        seconds: How long.
        deadline_ms: Time from the arrival of a frame to its mask.
        competing: Whether another process is to keep one core busy meanwhile.
    """
    count = max(1, round(fps * seconds))
    log = RunLog(count)
    with keep_busy() if competing else nullcontext():
        live = model.stream(deadline_ms=deadline_ms, on_event=log.write)
        with live:
            begin = time.perf_counter()
            film = (frames[index % len(frames)] for index in range(count))
            for _ in run_stream(live, paced(film, fps)):
                pass
            took_s = time.perf_counter() - begin
            counts, rss_last = live.counts, resident_bytes()
    return log.sum_up(
        fps=fps, competing=competing, seconds=took_s, counts=counts, deadline_ms=deadline_ms,
        rss_last=rss_last,
    )  # fmt: skip


class RunLog:
    """Adds up events as they come, without keeping them.

    Args:
        count: Frames that will be sent.
    """

    def __init__(self, count: int) -> None:
        self._settled_at = count // 10
        self.latency_ms, self.age_ms = array("f"), array("f")
        self.stage_ms: dict[str, array[float]] = {}
        self.timeline_ms: list[float] = []
        self.steps: list[str] = []
        self.misses = self.stale = self.resets = self.rss_first = 0
        self._arrived_s: float | None = None
        self._first_s: float | None = None

    def write(self, event: Event) -> None:
        """Add an event."""
        self.stale += event.state == "stale"
        self.resets += event.state == "reset"
        if "stepped" in event.reason:
            self.steps.append(f"frame {event.frame}: {event.reason}")
        if event.labels is None or event.reason.startswith("no new mask"):
            return
        now = time.perf_counter()
        if self._arrived_s is not None:
            self.age_ms.append(1e3 * (now - self._arrived_s))
        self._arrived_s = now - 1e-3 * event.age_ms
        self.latency_ms.append(event.age_ms)
        self.misses += event.late
        for name, ms in event.stage_ms.items():
            self.stage_ms.setdefault(name, array("f")).append(float(ms))
        if self._first_s is None:
            self._first_s = event.time_s
        second = int(event.time_s - self._first_s)
        self.timeline_ms += [0.0] * (second + 1 - len(self.timeline_ms))
        self.timeline_ms[second] = max(self.timeline_ms[second], event.age_ms)
        if not self.rss_first and event.frame >= self._settled_at:
            self.rss_first = resident_bytes()

    def sum_up(
        self,
        *,
        fps: float,
        competing: bool,
        seconds: float,
        counts: Counts,
        deadline_ms: float,
        rss_last: int,
    ) -> StreamRun:
        """Return the run.

        Args:
            fps: Frames a second that were sent.
            competing: Whether another process kept one core busy.
            seconds: How long it took.
            counts: Of the stream.
            deadline_ms: The deadline.
            rss_last: Resident memory at its end, in bytes.
        """
        return StreamRun(
            fps=fps,
            competing=competing,
            seconds=round(seconds, 3),
            frames=counts.sent,
            processed=counts.processed,
            dropped=counts.dropped,
            misses=self.misses,
            deadline_ms=deadline_ms,
            latency_ms=describe_times(self.latency_ms),
            age_ms=describe_times(self.age_ms),
            stage_ms={name: round(float(np.median(ms)), 3) for name, ms in self.stage_ms.items()},
            stale=self.stale,
            resets=self.resets,
            steps=tuple(self.steps),
            rss_mb=round(self.rss_first / 2**20, 1),
            rss_drift_mb=round((rss_last - self.rss_first) / 2**20, 2),
            timeline_ms=tuple(round(each, 2) for each in self.timeline_ms),
        )


def make_frames(
    model: Model, *, count: int = 30, size: tuple[int, int] = (240, 320)
) -> list[np.ndarray]:
    """Frames of moving clouds, (H, W) or (H, W, 3) uint8, for a bundle without a film."""
    rng = np.random.default_rng(0)
    channels = (3,) if model.bundle.spec.input.channels == 3 else ()
    small = rng.random((count, size[0] // 16, size[1] // 16, *channels), np.float32)
    return [
        (255 * cv2.resize(each, size[::-1], interpolation=cv2.INTER_CUBIC))
        .clip(0, 255)
        .astype(np.uint8)
        for each in small
    ]


def describe_times(times_ms: Sequence[float]) -> dict[str, float]:
    """Return "p50", "p95", "p99", "p999" and "max" of times, or of other numbers."""
    values = times_ms if len(times_ms) else [0.0]
    return {name: round(float(np.percentile(values, q)), 3) for name, q in _QUANTILES.items()}


@contextmanager
def keep_busy() -> Iterator[None]:
    """Keep one core busy with another process."""
    other = subprocess.Popen([sys.executable, "-c", _BURN])
    try:
        yield
    finally:
        other.kill()
        other.wait()
