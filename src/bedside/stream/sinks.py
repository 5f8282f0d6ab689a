"""Sinks of events: JSON lines, and a video of the frames with their masks."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from bedside.errors import BedsideError, OutputError
from bedside.spec import Label
from bedside.stream.event import Event
from bedside.stream.frames import view_frame
from bedside.stream.protocol import Frame, FrameSource

_KEPT = 4
_OPACITY = 0.35


class KeptFrames:
    """A source that keeps its latest frames, for sinks that show them with their masks.

    Args:
        source: The only source of a stream, so that its n-th frame has the number n.
        kept: How many are kept: more than there are frames between a frame and the sinks' view.
    """

    def __init__(self, source: FrameSource, *, kept: int = _KEPT) -> None:
        self._source, self._kept = source, kept
        self._lock = threading.Lock()
        self._frames: OrderedDict[int, Frame] = OrderedDict()

    def __iter__(self) -> Iterator[tuple[Frame, float]]:
        """Yield what the source yields."""
        for number, (frame, time_s) in enumerate(self._source):
            with self._lock:
                self._frames[number] = frame
                if len(self._frames) > self._kept:
                    self._frames.popitem(last=False)
            yield frame, time_s

    def find(self, number: int) -> np.ndarray | None:
        """A frame, (C, H, W); None if it is not kept any more, or cannot be decoded."""
        with self._lock:
            frame = self._frames.get(number)
        if frame is None or isinstance(frame, Exception):
            return None
        try:
            return view_frame(frame() if callable(frame) else frame)
        except BedsideError:
            return None


class VideoFile:
    """A sink that writes a video of the frames with their masks in colour.

    The video has the rate of the source: a frame that was dropped is shown as the one before.

    Args:
        path: The file, such as masks.mp4 or masks.avi.
        frames: Where the frames are found.
        structures: The labels, for their colours.
        frames_per_s: Rate of the source.

    Raises:
        OutputError: If it cannot be written.
    """

    def __init__(
        self,
        path: Path,
        frames: Callable[[int], np.ndarray | None],
        structures: Sequence[Label],
        *,
        frames_per_s: float,
    ) -> None:
        if not path.parent.is_dir():
            raise OutputError(f"cannot write {path}: {path.parent} is no folder.")
        self._path, self._frames, self._frames_per_s = path, frames, frames_per_s
        self._colours = np.zeros((256, 3), np.uint8)
        for each in structures:
            self._colours[each.value] = each.color
        self._writer: Any = None
        self._next, self._shape = 0, (0, 0)

    def write(self, event: Event) -> None:
        """Write the frame of an event that has a mask of its own.

        Raises:
            OutputError: If the file cannot be written.
        """
        frame = self._frames(event.frame)
        if event.labels is None or event.frame < self._next or frame is None:
            return
        picture = self._draw(frame, event.labels)
        if self._writer is None:
            self._open(picture.shape[:2])
        if picture.shape[:2] != self._shape:
            picture = cv2.resize(picture, self._shape[::-1])
        for _ in range(self._next, event.frame + 1):
            self._writer.write(picture)
        self._next = event.frame + 1

    def close(self) -> None:
        """Finish the file."""
        if self._writer is not None:
            self._writer.release()

    def _open(self, shape: tuple[int, int]) -> None:
        code = "mp4v" if self._path.suffix.lower() in (".mp4", ".m4v", ".mov") else "MJPG"
        fourcc = cv2.VideoWriter.fourcc(*code)
        self._writer = cv2.VideoWriter(str(self._path), fourcc, self._frames_per_s, shape[::-1])
        self._shape = shape
        if not self._writer.isOpened():
            raise OutputError(f"cannot write {self._path}: expected a name such as masks.mp4.")

    def _draw(self, frame: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Frame and mask as one picture, (H, W, 3) uint8, BGR."""
        grey = np.moveaxis(frame, 0, -1)
        if grey.dtype != np.uint8:
            low, high = float(np.nanmin(grey)), float(np.nanmax(grey))
            scaled = (np.nan_to_num(grey, nan=low) - low) * (255 / (high - low or 1.0))
            grey = scaled.astype(np.uint8)
        colour = np.ascontiguousarray(grey if grey.shape[2] == 3 else np.repeat(grey, 3, axis=2))
        mixed = cv2.addWeighted(colour, 1 - _OPACITY, self._colours[labels], _OPACITY, 0)
        shown = np.where((labels > 0)[..., None], mixed, colour)
        return np.ascontiguousarray(shown[..., ::-1])
