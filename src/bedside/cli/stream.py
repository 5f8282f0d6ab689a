"""`bedside stream`: frames that keep coming in, masks with their age out."""

import json
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bedside.cli.arguments import option, positional
from bedside.cli.bundles import open_bundle
from bedside.cli.console import print_err, print_out
from bedside.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bedside.segment import Model
    from bedside.stream import Event, LiveStream, Sink
    from bedside.stream.event import Beat
    from bedside.stream.queued import QueuedSink, SinkCounts
    from bedside.stream.sinks import KeptFrames
    from bedside.stream.sources import OpenedSource

_ROOM = {"record": 64, "video": 16, "igtl": 1, "websocket": 1, "json": 64}
"""Events that may wait for each sink. A stream waits for its recording; others lose the oldest."""


@dataclass(frozen=True)
class Settings:
    """Segment frames as they come: a film at its own rate, a video, a camera, a pipe.

    The latest frame is segmented; those that came before it meanwhile are dropped and counted.
    """

    source: str = positional(
        help='film (DICOM and others), video file, camera such as 0, address, or "-" for raw '
        "bytes from standard input"
    )
    model: str | None = option(
        help="bundle file, or the name of a shipped bundle, see bedside models",
        default=None,
        short="-m",
    )
    deadline: float = option(help="time from frame to mask, in ms", default=33.0)
    fps: float | None = option(
        help="rate at which a film is played (default: its own)", default=None
    )
    loops: int = option(help="how often a film is played", default=1)
    seconds: float | None = option(help="stop after this time", default=None)
    steady: bool = option(
        help="steady masks over time: they flicker less and lag by about half a frame",
        default=False,
    )
    size: tuple[int, ...] = option(
        help="HEIGHT WIDTH of raw frames of 8 bits, and 3 if they are RGB", default=()
    )
    json: bool = option(help="print events as JSON, one a line, and nothing else", default=False)
    record: Path | None = option(help="write events to this file, to play them again", default=None)
    replay: Path | None = option(
        help="play a film as it was recorded in this file, and compare the masks", default=None
    )
    video: Path | None = option(
        help="write a video of frames and masks, such as m.mp4", default=None
    )
    igtl: int | None = option(
        help="send frames, masks and measurements over OpenIGTLink from this port", default=None
    )
    websocket: int | None = option(
        help="send events and masks to viewers over WebSocket from this port", default=None
    )
    listen: str = option(
        help="address of this machine at which --igtl, --websocket and igtl://:PORT listen; only "
        "this machine can connect by default",
        default="127.0.0.1",
    )
    origin: tuple[str, ...] = option(
        help="web pages beside those of this machine that may connect to it", default=()
    )
    backend: str = option(help="runtime", default="auto")
    precision: str = option(
        help="precision; auto for the fastest that is certified", default="auto"
    )
    threads: int | None = option(help="threads of the runtime (default: all cores)", default=None)
    gate: str = option(
        help="what happens to frames that look unlike those the network was trained on",
        default="warn",
        choices=("refuse", "warn", "off"),
    )


def run(settings: Settings) -> int:
    """Stream until the source ends, and sum up.

    Returns:
        0, or 3 if masks of a replay are others than the recorded ones.

    Raises:
        UsageError: If an option has no meaning.
        InputError: If the source or the bundle is refused.
        OutputError: If a file cannot be written.
        BackendError: If the runtime is not installed.
    """
    from bedside.options import RunOptions
    from bedside.segment import Model
    from bedside.stream.sources import open_frames

    source = open_frames(
        settings.source, frames_per_s=settings.fps, shape=settings.size, loops=settings.loops,
        listen=settings.listen,
    )  # fmt: skip
    bundle = open_bundle(settings.model)
    gate: Any = settings.gate
    options = RunOptions(settings.backend, settings.precision, settings.threads, gate=gate)
    with closing(source), Model.open(bundle, options, on_choice=print_err) as model:
        if settings.replay is not None:
            return _replay(settings, model, source)
        return _stream(settings, model, source)


def _stream(settings: Settings, model: "Model", source: "OpenedSource") -> int:
    """Segment the frames, and write their events to every sink."""
    from bedside.stream import run_stream
    from bedside.stream.sinks import KeptFrames

    with ExitStack() as stack:
        frames = KeptFrames(source.frames, kept=_ROOM["video"] + 4 if settings.video else 4)
        sinks = _open_sinks(settings, model, source, frames, stack)

        def write(event: "Event") -> None:
            for sink in sinks.values():
                sink.write(event)

        live = stack.enter_context(_open_live(settings, model, source, write))
        status = _Status(live, print_err if settings.json else print_out)
        for event in run_stream(live, frames):
            status.note(event)
            if settings.seconds is not None and status.passed_s >= settings.seconds:
                break
        live.close()
        for sink in sinks.values():
            sink.close()
        status.finish({name: sink.counts for name, sink in sinks.items()})
    return 0


def _open_sinks(
    settings: Settings,
    model: "Model",
    source: "OpenedSource",
    frames: "KeptFrames",
    stack: ExitStack,
) -> "Mapping[str, QueuedSink]":
    """Open what the settings name, each in a thread of its own, by the name of its option."""
    from bedside.igtl import IgtlServer
    from bedside.stream.openigtlink import IgtlFrames, IgtlSink, place_frames
    from bedside.stream.queued import QueuedSink
    from bedside.stream.record import EventFile
    from bedside.stream.sinks import VideoFile
    from bedside.stream.websocket import WebSocketSink

    sinks: dict[str, Sink] = {}
    if settings.record is not None:
        sinks["record"] = EventFile(settings.record)
    if settings.video is not None:
        rate = source.frames_per_s or 30.0
        labels = model.bundle.spec.labels
        sinks["video"] = VideoFile(settings.video, frames.find, labels, frames_per_s=rate)
    if settings.igtl is not None:
        server = stack.enter_context(IgtlServer(settings.igtl, host=settings.listen))
        own, spacing_mm = source.frames, source.film.spacing_mm if source.film else None
        if isinstance(own, IgtlFrames):
            sinks["igtl"] = IgtlSink(server.send, own.find, others=own.pass_on)
        else:
            sinks["igtl"] = IgtlSink(server.send, place_frames(frames.find, spacing_mm))
    if settings.websocket is not None:
        sinks["websocket"] = WebSocketSink(
            settings.websocket, host=settings.listen, origins=settings.origin
        )
    if settings.json:
        sinks["json"] = _Lines()
    queued = {}
    for name, sink in sinks.items():
        queued[name] = QueuedSink(sink, room=_ROOM[name], lossless=name == "record")
        stack.callback(queued[name].close)
    return queued


def _open_live(
    settings: Settings,
    model: "Model",
    source: "OpenedSource",
    write: "Callable[[Event], None] | None",
) -> "LiveStream":
    return model.stream(
        deadline_ms=settings.deadline, sample=source.film or (), steady=settings.steady,
        on_event=write,
    )  # fmt: skip


def _replay(settings: Settings, model: "Model", source: "OpenedSource") -> int:
    """Play a film as it was recorded, and compare.

    Raises:
        UsageError: If the source cannot be played again.
    """
    from bedside.stream.record import read_events, replay

    if source.unpaced is None or settings.replay is None:
        raise UsageError("--replay takes a film or a video: this source cannot be played again.")
    recorded = read_events(settings.replay)
    same = others = 0
    with _open_live(settings, model, source, None) as live:
        for each in replay(recorded, source.unpaced, live):
            same, others = same + each.is_same, others + (not each.is_same)
            if settings.json:
                print_out(json.dumps(each.event.to_mapping() | {"is_same": each.is_same}))
    tell = print_err if settings.json else print_out
    tell(f"{same} frames as recorded, {others} otherwise.")
    return 3 if others else 0


class _Lines:
    """A sink that prints events as JSON."""

    def write(self, event: "Event") -> None:
        print_out(json.dumps(event.to_mapping()))

    def close(self) -> None:
        pass


def _word(beat: "Beat", name: str) -> str:
    """A fraction of a beat in per cent, with its interval if it has one."""
    text = f"{100 * getattr(beat, name):.0f} %"
    if name not in beat.intervals:
        return text
    low, high = (100 * end for end in beat.intervals[name])
    return f"{text} ({low:.0f} to {high:.0f} %)"


class _Status:
    """Prints a line each second, of what came in it."""

    def __init__(self, live: "LiveStream", tell: Callable[[str], None]) -> None:
        self._live, self._tell = live, tell
        self._begin = self._last = time.monotonic()
        self._ages: list[float] = []
        self._all_ages: list[float] = []
        self._late = self._stale = 0
        self._warnings: tuple[str, ...] = ()

    @property
    def passed_s(self) -> float:
        """Time since the beginning."""
        return time.monotonic() - self._begin

    def note(self, event: "Event") -> None:
        """Note an event, and print what a person has to know."""
        if event.labels is not None and event.state != "stale":
            self._ages.append(event.age_ms)
            self._late += event.late
        self._stale += event.state == "stale"
        if event.reason and event.state != "stale":
            self._tell(f"  frame {event.frame}: {event.state}: {event.reason}")
        if event.labels is not None and event.warnings != self._warnings:
            for text in event.warnings:
                if text not in self._warnings:
                    self._tell(f"  frame {event.frame}: {text}")
            self._warnings = event.warnings
        if event.beat is not None and event.beat.ejection_fraction is not None:
            self._tell(
                f"  beat, frames {event.beat.ed_frame} to {event.beat.es_frame}: ejection "
                f"fraction {_word(event.beat, 'ejection_fraction')} in this plane, area change "
                f"{_word(event.beat, 'fractional_area_change')}"
            )
        if time.monotonic() - self._last >= 1:
            self._last = time.monotonic()
            self._print(event.step)

    def finish(self, sinks: "Mapping[str, SinkCounts]") -> None:
        """Print the last lines."""
        self._print("in all", ages=self._all_ages + self._ages)
        for name, counts in sinks.items():
            if counts.dropped:
                self._tell(
                    f"  --{name} was too slow for {counts.dropped} of {counts.offered} events"
                )
        self._tell("Research use only. Not a medical device.")

    def _print(self, step: str, *, ages: list[float] | None = None) -> None:
        import numpy as np

        counts = self._live.counts
        shown = self._ages if ages is None else ages
        p50, p99 = np.percentile(shown, (50, 99)) if shown else (0.0, 0.0)
        self._tell(
            f"{self.passed_s:5.1f} s  {counts.sent} frames, {counts.processed} masks, "
            f"{counts.dropped} dropped, {self._late} late, {self._stale} stale  "
            f"p50 {p50:.1f} ms, p99 {p99:.1f} ms  {step}"
        )
        self._all_ages += self._ages
        self._ages = []
