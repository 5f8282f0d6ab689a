"""Where frames come from and events go to: an iterator, and an object with `write`."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from bedside.stream.event import Event

Frame = np.ndarray | Callable[[], np.ndarray] | Exception
"""A frame: (H, W), (H, W, 3), (1, H, W) or (3, H, W); or a function that decodes it, called only
if the frame is not dropped before; or the error for which there is none."""

FrameSource = Iterable[tuple[Frame, float]]
"""Frames with their times in s by the clock of the source, each given when it has arrived."""


@dataclass(frozen=True, eq=False)
class ScaledFrame:
    """A frame that brings the distance of its pixels; called, it returns them.

    Attributes:
        decode: Decodes it.
        spacing_mm: (row, column) distance of pixels; None if unknown.
    """

    decode: Callable[[], np.ndarray]
    spacing_mm: tuple[float, float] | None

    def __call__(self) -> np.ndarray:
        """Return the pixels, as in `Frame`."""
        return self.decode()


class Sink(Protocol):
    """Receiver of the events of a stream, such as a file or a connection."""

    def write(self, event: Event) -> None:
        """Receive an event; called by one thread at a time.

        Args:
            event: The event.
        """
        ...

    def close(self) -> None:
        """Close the receiver; called once, after the last event."""
        ...


def paced(
    frames: Iterable[Frame], frames_per_s: float, *, sleep: Callable[[float], None] = time.sleep
) -> Iterator[tuple[Frame, float]]:
    """Frames at an even rate against the clock, with times from 0.

    A frame that its reader fetches late is given at once, so that the rate holds on average.
    """
    begin = time.monotonic()
    for index, frame in enumerate(frames):
        time_s = index / frames_per_s
        wait_s = begin + time_s - time.monotonic()
        if wait_s > 0:
            sleep(wait_s)
        yield frame, time_s
