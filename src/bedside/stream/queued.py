"""Sinks in threads of their own, so that none of them delays a stream."""

import threading
from collections import deque
from dataclasses import dataclass, replace

from bedside.stream.event import Event
from bedside.stream.protocol import Sink


@dataclass(frozen=True)
class SinkCounts:
    """What became of the events for a sink; `offered` is the sum of the others, at every moment.

    Attributes:
        offered: Events so far.
        written: Taken by the sink.
        dropped: Not taken: too many later ones waited, or the sink has failed.
        waiting: Not taken yet.
    """

    offered: int = 0
    written: int = 0
    dropped: int = 0
    waiting: int = 0


class QueuedSink:
    """A sink that hands events on to another one, which a thread of its own calls.

    Args:
        sink: The other one; closed with this one.
        room: Events that may wait, besides the one that is being written.
        lossless: Whether `write` waits where there is no room; else the oldest event that waits is
            dropped and counted.
    """

    def __init__(self, sink: Sink, *, room: int, lossless: bool = False) -> None:
        self._sink, self._room, self._lossless = sink, room, lossless
        self._changed = threading.Condition()
        self._events: deque[Event] = deque()
        self._counts = SinkCounts()
        self._closed = False
        self._failure: BaseException | None = None
        self._is_told = False
        self._thread = threading.Thread(target=self._work, name="bedside sink", daemon=True)
        self._thread.start()

    @property
    def counts(self) -> SinkCounts:
        """The counts of this moment."""
        with self._changed:
            return self._counts

    def write(self, event: Event) -> None:
        """Put an event in the queue.

        Raises:
            Exception: What the sink has raised; it gets no further events.
        """
        with self._changed:
            while self._lossless and len(self._events) == self._room and self._failure is None:
                self._changed.wait()
            self._count(offered=1, waiting=1)
            self._events.append(event)
            if len(self._events) > self._room or self._failure is not None:
                self._events.popleft()
                self._count(dropped=1, waiting=-1)
            self._changed.notify_all()
            self._raise_failure()

    def close(self) -> None:
        """Write what waits, and close the sink; a second time does nothing.

        Raises:
            Exception: What the sink has raised, if `write` has not raised it before.
        """
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
        self._thread.join()
        try:
            self._sink.close()
        finally:
            if not self._is_told:
                self._raise_failure()

    def _work(self) -> None:
        while (event := self._take()) is not None:
            try:
                self._sink.write(event)
            except BaseException as error:  # noqa: BLE001 - raised in the thread that writes
                self._fail(error)
                return
            with self._changed:
                self._count(written=1, waiting=-1)

    def _take(self) -> Event | None:
        """Wait for an event; None if there will be none."""
        with self._changed:
            while not self._events and not self._closed:
                self._changed.wait()
            event = self._events.popleft() if self._events else None
            self._changed.notify_all()
            return event

    def _raise_failure(self) -> None:
        if self._failure is not None:
            self._is_told = True
            raise self._failure

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self._failure = error
            lost = 1 + len(self._events)
            self._events.clear()
            self._count(dropped=lost, waiting=-lost)
            self._changed.notify_all()

    def _count(self, **more: int) -> None:
        new = {name: getattr(self._counts, name) + number for name, number in more.items()}
        self._counts = replace(self._counts, **new)
