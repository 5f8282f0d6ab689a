"""Runs a source of frames through a stream to events, in two threads."""

import threading
from collections.abc import Iterator

from bedside.stream.event import Event
from bedside.stream.live import LiveStream
from bedside.stream.protocol import FrameSource


def run_stream(
    live: LiveStream, source: FrameSource, *, take_timeout_s: float = 0.05
) -> Iterator[Event]:
    """Yield the events of the frames of a source, which a second thread offers as they come.

    Args:
        live: The stream.
        source: Its iterator may block until a frame is there; an error that it raises is raised
            here.
        take_timeout_s: How long to wait for an event before looking whether the source has ended.

    Yields:
        Events as `LiveStream.take` gives them, "stale" ones too, until the source has ended and
        its last frame is done.
    """
    ended = threading.Event()
    stop = threading.Event()
    failures: list[BaseException] = []

    def offer_all() -> None:
        try:
            for frame, time_s in source:
                if stop.is_set():
                    break
                live.offer(frame, time_s)
        except BaseException as error:  # noqa: BLE001 - raised in the thread that reads events
            failures.append(error)
        finally:
            ended.set()

    thread = threading.Thread(target=offer_all, name="bedside frames", daemon=True)
    thread.start()
    try:
        while True:
            was_ended = ended.is_set() and live.counts.unfinished == 0
            event = live.take(0.0 if was_ended else take_timeout_s)
            if event is not None and not (was_ended and event.state == "stale"):
                yield event
            elif was_ended:
                break
    finally:
        stop.set()
    if failures:
        raise failures[0]
