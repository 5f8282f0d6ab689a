"""A queue of one frame, of which the latest wins, with exact counts of what became of each."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from bedside.errors import ClosedError

Payload = np.ndarray | Callable[[], np.ndarray] | Exception


@dataclass(frozen=True)
class Counts:
    """What became of the frames; `sent` is the sum of all others, at every moment.

    Attributes:
        sent: Frames offered or pushed so far.
        processed: Segmented.
        dropped: Not segmented: a later one came before, or they were too old or refused.
        waiting: Not begun: 0 or 1 of those offered.
        in_flight: Begun and not finished.
    """

    sent: int = 0
    processed: int = 0
    dropped: int = 0
    waiting: int = 0
    in_flight: int = 0

    @property
    def unfinished(self) -> int:
        """Frames that wait or are in flight."""
        return self.waiting + self.in_flight


@dataclass(frozen=True, eq=False)
class Arrived:
    """A frame that has arrived.

    Attributes:
        number: In the order of arrival, from 0.
        payload: The frame, (C, H, W), what decodes it, or why there is none.
        time_s: Time by the clock of the source, as it was given.
        arrived_s: When it arrived by the clock of this process.
    """

    number: int
    payload: Payload
    time_s: object
    arrived_s: float


class LatestSlot:
    """Holds the latest frame until a thread takes it; putting one in never waits."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._frame: Arrived | None = None
        self._counts = Counts()
        self._closed = False

    @property
    def counts(self) -> Counts:
        """The counts of this moment."""
        with self._changed:
            return self._counts

    def put(self, payload: Payload, time_s: object, arrived_s: float) -> Arrived | None:
        """Put a frame in; return the one whose place it takes, which is dropped.

        Raises:
            ClosedError: If the slot was closed.
        """
        with self._changed:
            self._check_open()
            before, counts = self._frame, self._counts
            self._frame = Arrived(counts.sent, payload, time_s, arrived_s)
            self._counts = replace(
                counts, sent=counts.sent + 1, waiting=1,
                dropped=counts.dropped + (before is not None),
            )  # fmt: skip
            self._changed.notify()
            return before

    def enter(self, payload: Payload, time_s: object, arrived_s: float) -> Arrived:
        """Count a frame that is worked off at once.

        Raises:
            ClosedError: If the slot was closed.
        """
        with self._changed:
            self._check_open()
            counts = self._counts
            self._counts = replace(counts, sent=counts.sent + 1, in_flight=counts.in_flight + 1)
            return Arrived(counts.sent, payload, time_s, arrived_s)

    def get(self, timeout_s: float) -> Arrived | None:
        """Wait for a frame and take it out, in flight; None if none came, or if closed."""
        with self._changed:
            if self._frame is None and not self._closed:
                self._changed.wait(timeout_s)
            frame, counts = self._frame, self._counts
            if frame is not None:
                self._frame = None
                self._counts = replace(counts, waiting=0, in_flight=counts.in_flight + 1)
            return frame

    def finish(self, *, processed: bool) -> Counts:
        """Count a frame that was in flight as segmented, or as dropped."""
        with self._changed:
            counts = self._counts
            self._counts = replace(
                counts,
                in_flight=counts.in_flight - 1,
                processed=counts.processed + processed,
                dropped=counts.dropped + (not processed),
            )
            return self._counts

    def close(self) -> None:
        """Refuse later frames; one that waits is dropped."""
        with self._changed:
            self._closed = True
            if self._frame is not None:
                counts, self._frame = self._counts, None
                self._counts = replace(counts, waiting=0, dropped=counts.dropped + 1)
            self._changed.notify_all()

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._closed

    def _check_open(self) -> None:
        if self._closed:
            raise ClosedError("the stream was closed. Open another one.")
