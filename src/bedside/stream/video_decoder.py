"""Pictures from VIDEO messages: raw planes by OpenCV, everything else by PyAV."""

from typing import Any

import cv2
import numpy as np

from bedside.errors import BackendError, FormatError, install_command
from bedside.igtl import Video

_CODECS = {"H264": "h264", "VP90": "vp9", "VP9": "vp9", "X265": "hevc", "AV10": "libdav1d"}
_ALIGNED_PX = 128
"""Codecs work on blocks: a picture in memory is larger by at most so much on each axis."""


class VideoDecoder:
    """Decodes the frames of one sender, in their order.

    A frame that is coded by its difference from those before is only right if they all have come:
    after a gap, `restart` makes it wait for the next whole one.
    """

    def __init__(self) -> None:
        self._context: Any = None
        self._kind: tuple[object, ...] = ()

    def restart(self) -> None:
        """Forget the frames before."""
        self._context, self._kind = None, ()

    def decode(self, video: Video) -> np.ndarray:
        """Decode a frame.

        Returns:
            (H, W) uint8, or (H, W, 3) of RGB.

        Raises:
            FormatError: If it is damaged, or frames before it are needed that have not come.
            BackendError: If PyAV is needed and not installed.
        """
        if video.codec == "I420":
            return _decode_raw(video)
        if video.codec.strip() not in _CODECS:
            names = ", ".join(["I420", *_CODECS])
            raise FormatError(f"the video is coded by {video.codec!r}; expected one of {names}.")
        av, context = _import_av(), self._open(video)
        try:
            frames = context.decode(av.Packet(video.data)) if video.data else []
        except av.error.FFmpegError as error:
            self.restart()
            raise FormatError(
                f"a frame by {video.codec} is damaged, or needs one before it: {error.strerror}."
            ) from error
        if not frames:
            raise FormatError(f"the video by {video.codec} has no whole frame yet.")
        frame = frames[-1]
        if (frame.height, frame.width) != video.shape:
            self.restart()
            raise FormatError(
                f"the frame is {frame.height} x {frame.width} pixels; its header says "
                f"{video.shape[0]} x {video.shape[1]}."
            )
        return _view_brightness(frame) if video.is_grey else frame.to_ndarray(format="rgb24")

    def _open(self, video: Video) -> Any:
        """The decoder of a kind of video; a new one if that has changed."""
        kind = video.codec, video.shape
        if self._context is None or kind != self._kind:
            height, width = (length + _ALIGNED_PX for length in video.shape)
            context = _import_av().CodecContext.create(_CODECS[video.codec.strip()], "r")
            context.thread_count = 1  # others would each hold a frame back
            context.options = {"flags": "low_delay", "max_pixels": str(height * width)}
            self._context, self._kind = context, kind
        return self._context


def _view_brightness(frame: Any) -> np.ndarray:
    """The first plane of a frame: senders put grey pixels there as they are."""
    plane = frame.planes[0]
    if plane.buffer_size < plane.line_size * frame.height:
        raise FormatError(f"the video has pixels of {frame.format.name}; expected 8 bits.")
    rows = np.frombuffer(plane, np.uint8)[: plane.line_size * frame.height]
    return rows.reshape(frame.height, plane.line_size)[:, : frame.width]


def _decode_raw(video: Video) -> np.ndarray:
    """A frame of three planes, the second and third of half the size."""
    height, width = video.shape
    if height % 2 or width % 2 or 2 * len(video.data) != 3 * height * width:
        raise FormatError(
            f"the video has {len(video.data)} bytes for {height} x {width} pixels; expected even "
            "sides and three bytes for two pixels."
        )
    planes = np.frombuffer(video.data, np.uint8).reshape(3 * height // 2, width)
    return planes[:height] if video.is_grey else cv2.cvtColor(planes, cv2.COLOR_YUV2RGB_I420)


def _import_av() -> Any:
    try:
        import av
    except ImportError as error:
        raise BackendError(
            f"PyAV is not installed, which decodes video. Install it with: {install_command('av')}"
        ) from error
    return av
