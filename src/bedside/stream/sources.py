"""Sources of frames: a film on disk at its own rate, a video, a camera, an address, a pipe."""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np

from bedside.errors import FormatError, UsageError
from bedside.igtl.connection import LOCAL
from bedside.io.image import open_image
from bedside.io.read_options import ReadOptions
from bedside.stream.network import NetworkFrames
from bedside.stream.openigtlink import IgtlFrames, open_igtl
from bedside.stream.protocol import Frame, FrameSource, paced
from bedside.stream.webrtc import WebRtcFrames, open_webrtc
from bedside.volume import ImageSequence

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg")
_FRAMES_PER_S = 30.0


@dataclass(frozen=True)
class OpenedSource:
    """A source of frames that is ready.

    Attributes:
        frames: Frames with their times, each given when it has arrived.
        unpaced: The same frames as fast as they can be had; None where that is not possible.
        frames_per_s: Rate of the source; None if it is not known.
        film: A film that is known as a whole.
    """

    frames: FrameSource
    unpaced: Iterable[Frame] | None = None
    frames_per_s: float | None = None
    film: ImageSequence | None = None

    def close(self) -> None:
        """Close its connection, if it has one."""
        if isinstance(self.frames, IgtlFrames | NetworkFrames | WebRtcFrames):
            self.frames.close()


def open_frames(
    source: str,
    *,
    frames_per_s: float | None = None,
    shape: tuple[int, ...] = (),
    loops: int = 1,
    listen: str = LOCAL,
) -> OpenedSource:
    """Open a source by its name.

    Args:
        source: A film (DICOM, NIfTI, ...), a video file, the number or device of a camera such as
            "0" or "/dev/video0", an address that begins with "rtsp://", "http://" or another of
            `network.SCHEMES`, "igtl://HOST:PORT" or "igtl://:PORT" for OpenIGTLink, "webrtc://:PORT"
            for a peer that sends by WebRTC, or "-" for raw frames from standard input.
        frames_per_s: Rate at which a film is played, instead of its own.
        shape: (H, W) or (H, W, 3) of raw frames, which have none of their own.
        loops: How often a film on disk is played, one time after the other.
        listen: Address of this machine at which peers connect to it, for "igtl://:PORT" and
            "webrtc://:PORT".

    Raises:
        UsageError: If a setting has no meaning.
        InputError: If there is no such source, or it is refused.
        BackendError: If PyAV or aiortc is needed for an address and not installed.
    """
    if frames_per_s is not None and not 0 < frames_per_s < 1e4:
        raise UsageError(f"fps is {frames_per_s}; expected a number above 0.")
    if loops < 1:
        raise UsageError(f"loops is {loops}; expected at least 1.")
    if source == "-":
        if not shape:
            raise UsageError("raw frames have no size of their own: pass --size HEIGHT WIDTH.")
        return OpenedSource(read_pipe(sys.stdin.buffer, shape))
    if source.startswith("igtl:"):
        return OpenedSource(open_igtl(source, listen=listen))
    if source.startswith("webrtc:"):
        return OpenedSource(open_webrtc(source, listen=listen))
    if "://" in source:
        return OpenedSource(NetworkFrames(source))
    if source.isdecimal() or source.startswith("/dev/video"):
        return OpenedSource(read_camera(source))
    if source.lower().endswith(VIDEO_SUFFIXES):
        return open_video(Path(source), frames_per_s=frames_per_s, loops=loops)
    return open_film(Path(source), frames_per_s=frames_per_s, loops=loops)


def open_film(path: Path, *, frames_per_s: float | None = None, loops: int = 1) -> OpenedSource:
    """Open a film, to be played at its own rate; its frames are decoded as they are needed.

    Raises:
        InputError: If it is refused.
    """
    sequence = open_image(path, read=ReadOptions()).sequence
    if frames_per_s is None:
        frame_ms = sequence.frame_time_ms
        frames_per_s = 1e3 / frame_ms if frame_ms else _FRAMES_PER_S
    count = len(sequence)

    def play() -> Iterator[Frame]:
        for index in range(loops * count):
            yield _decoder(sequence.decode, index % count)

    return OpenedSource(
        frames=paced(play(), frames_per_s),
        unpaced=play(),
        frames_per_s=frames_per_s,
        film=sequence,
    )


def open_video(path: Path, *, frames_per_s: float | None = None, loops: int = 1) -> OpenedSource:
    """Open a video file, to be played at its own rate.

    Raises:
        FormatError: If it cannot be read.
    """
    video = _open_capture(str(path))
    frames_per_s = frames_per_s or video.get(cv2.CAP_PROP_FPS) or _FRAMES_PER_S
    video.release()

    def play() -> Iterator[Frame]:
        for _ in range(loops):
            yield from _read_all(_open_capture(str(path)))

    return OpenedSource(paced(play(), frames_per_s), play(), frames_per_s)


def read_camera(name: str) -> Iterator[tuple[Frame, float]]:
    """Frames of a camera, with the times of their arrival, without end.

    Raises:
        FormatError: If it cannot be opened.
    """
    begin = time.monotonic()
    camera = _open_capture(int(name) if name.isdecimal() else name)
    camera.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # else the driver keeps frames until they are old
    for frame in _read_all(camera):
        yield frame, time.monotonic() - begin


def read_pipe(pipe: IO[bytes], shape: tuple[int, ...]) -> Iterator[tuple[Frame, float]]:
    """Frames of bytes that follow each other without headers, with the times of their arrival.

    Args:
        pipe: Where they come from.
        shape: (H, W), or (H, W, 3) of RGB.

    Yields:
        Frames; for a rest that is no whole frame, its error.

    Raises:
        UsageError: If the shape is none of these.
    """
    if len(shape) not in (2, 3) or min(shape) < 1 or shape[2:] not in ((), (3,)):
        raise UsageError(f"size is {shape}; expected HEIGHT WIDTH, or HEIGHT WIDTH 3.")
    count, begin = int(np.prod(shape)), time.monotonic()
    while data := pipe.read(count):
        time_s = time.monotonic() - begin
        if len(data) < count:
            yield FormatError(f"the last frame has {len(data)} of {count} bytes."), time_s
            return
        yield np.frombuffer(data, np.uint8).reshape(shape), time_s


def _decoder(decode: Callable[[int], np.ndarray], index: int) -> Callable[[], np.ndarray]:
    return lambda: decode(index)


def _open_capture(name: str | int) -> Any:
    """Open a video or a camera.

    Raises:
        FormatError: If it cannot be.
    """
    if isinstance(name, str) and not os.path.exists(name):
        raise FormatError(f"{name} is not there.")
    video = cv2.VideoCapture(name)
    if not video.isOpened():
        raise FormatError(f"{name} is no video or camera that can be opened here.")
    return video


def _read_all(video: Any) -> Iterator[np.ndarray]:
    """Frames of a video, (H, W, 3) RGB, until it ends."""
    try:
        while True:
            found, frame = video.read()
            if not found:
                return
            yield cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
    finally:
        video.release()
