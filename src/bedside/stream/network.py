"""Frames of an address, such as of an RTSP camera: the latest, and connected again if they stop."""

import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from bedside.errors import BackendError, FormatError, UsageError, install_command
from bedside.stream.protocol import Frame

SCHEMES = ("rtsp", "rtsps", "rtmp", "http", "https", "udp", "tcp", "rtp", "srt")
# A playlist that comes from an address may name others, but no files of this machine.
_PROTOCOLS = "rtsp,rtsps,rtmp,http,https,udp,tcp,tls,rtp,srtp,srt,hls,crypto"
_OPTIONS = {
    "protocol_whitelist": _PROTOCOLS,
    "probesize": "1000000", "analyzeduration": "1000000",
}  # fmt: skip
_OPEN_S = 10.0
_SOON_S, _SOON_TRIES, _LONGEST_S = 0.05, 20, 1.0
_BEHIND_S, _BEHIND_FOR_S = 0.25, 1.0
_LOW_DELAY = 1 << 19
"""FFmpeg's AV_CODEC_FLAG_LOW_DELAY."""
_DRIFT = 2e-4
"""The clocks of a sender and of this machine differ by less than that part."""


class NetworkFrames:
    """Frames of a live video at an address, decoded as they come.

    They are given as fast as they come, so a stream that takes the latest is never behind. If
    decoding itself is too slow, frames up to the next key frame are left out. If the connection is
    lost, or silent for too long, it connects again: at first every 50 ms, later once a second. Both
    are told by an error in place of a frame. A video with an end, such as a file, is played at its
    own rate, and ends.

    Args:
        address: Of one of `SCHEMES`.
        silent_s: Time without any data after which a connection counts as lost.

    Raises:
        UsageError: If the address is of no such kind.
        BackendError: If PyAV is not installed.

    Attributes:
        connects: How often it has connected.
        skipped: Frames that were left out, to keep up or after a damaged one.
    """

    def __init__(self, address: str, *, silent_s: float = 5.0) -> None:
        self._av = _import_av()
        self._address, self._silent_s = address, silent_s
        parts = urlsplit(address)
        if parts.scheme not in SCHEMES:
            raise UsageError(f"{parts.scheme}:// is no address; expected {', '.join(SCHEMES)}.")
        self._name = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
        self._closed = self._is_damaged = False
        self.connects = self.skipped = 0

    def __iter__(self) -> Iterator[tuple[Frame, float]]:
        """Yield frames with the times of their arrival.

        Raises:
            FormatError: If the first connection fails, or brings no video.
        """
        begin, failures = time.monotonic(), 0
        while not self._closed:
            reason = "it has ended"
            try:
                with self._open() as container:
                    for number, frame in enumerate(self._read(container)):
                        self.connects += number == 0
                        if failures:
                            failures = 0
                            again = FormatError(f"{self._name} is connected again.")
                            yield again, time.monotonic() - begin
                        yield frame, time.monotonic() - begin
                    if _has_end(container):
                        return
            except self._av.error.ExitError:
                reason = f"nothing came for {self._silent_s:g} s"
            except (self._av.error.FFmpegError, OSError) as error:
                reason = error.strerror or type(error).__name__
            except _NoVideoError:
                reason = "it has no video"
            if not self.connects:
                raise FormatError(f"{self._name} brings no video: {reason}.")
            if not failures:
                lost = f"the connection to {self._name} was lost: {reason}. Connecting again."
                yield FormatError(lost), time.monotonic() - begin
            time.sleep(min(_SOON_S * 2 ** max(failures - _SOON_TRIES, 0), _LONGEST_S))
            failures = min(failures + 1, 2 * _SOON_TRIES)

    def close(self) -> None:
        """End the iteration with its next frame."""
        self._closed = True

    def _open(self) -> Any:
        try:
            container = self._connect("tcp")
        except self._av.error.HTTPError:
            if not self._address.startswith("rtsp"):
                raise
            container = self._connect("udp")  # which may lose packets
        if not container.streams.video:
            container.close()
            raise _NoVideoError
        video = container.streams.video[0]
        video.thread_type = "SLICE"  # threads for a frame each would hold back as many frames
        video.codec_context.flags |= _LOW_DELAY
        video.codec_context.options = {"err_detect": "explode"}
        return container

    def _connect(self, transport: str) -> Any:
        timeout = (max(_OPEN_S, self._silent_s), self._silent_s)
        options = _OPTIONS
        if self._address.startswith("rtsp"):
            options = options | {"rtsp_transport": transport}
        return self._av.open(self._address, timeout=timeout, options=options)

    def _read(self, container: Any) -> Iterator[Frame]:
        """Decode packets as they come; those of a video with an end at their time."""
        video, backlog = container.streams.video[0], _Backlog()
        self._is_damaged = False
        has_end, begin = _has_end(container), time.monotonic()
        first_s: float | None = None
        for packet in container.demux(video):
            if self._closed:
                return
            now = time.monotonic()
            sent_s = None if packet.dts is None else float(packet.dts * packet.time_base)
            if sent_s is not None and has_end:
                first_s = sent_s if first_s is None else first_s
                time.sleep(max(begin + sent_s - first_s - now, 0.0))
            elif sent_s is not None:
                was_behind = backlog.is_behind
                if backlog.note(sent_s, now, is_key=packet.is_keyframe):
                    self.skipped += 1
                    if not was_behind:
                        yield FormatError(
                            f"{self._name} cannot be decoded as fast as it comes: frames up to "
                            "the next key frame are left out."
                        )
                    continue
                if was_behind:
                    video.codec_context.flush_buffers()
            yield from self._decode(packet)

    def _decode(self, packet: Any) -> Iterator[Frame]:
        """Decode a packet; after a damaged one none before a key frame is right."""
        if self._is_damaged and not packet.is_keyframe:
            self.skipped += 1
            return
        reason = "a part of it is missing" if packet.is_corrupt else ""
        try:
            frames = [] if reason else packet.decode()
        except self._av.error.InvalidDataError as error:
            reason = str(error.strerror)
        self._is_damaged = bool(reason)
        if reason:
            yield FormatError(
                f"a frame of {self._name} is damaged: {reason}. Those up to the next key frame are "
                "left out."
            )
        else:
            yield from map(delay_pixels, frames)


class _NoVideoError(Exception):
    """What an address brings is no video."""


class _Backlog:
    """Finds from the times of packets whether they come later and later.

    Attributes:
        is_behind: Whether packets are left out, up to a key frame.
    """

    def __init__(self) -> None:
        self._least_s, self._noted_s = float("inf"), 0.0
        self._late_since_s: float | None = None
        self.is_behind = False

    def note(self, sent_s: float, now_s: float, *, is_key: bool) -> bool:
        """Note a packet; return whether it is to be left out.

        Args:
            sent_s: Its time by the clock of the sender.
            now_s: When it was read.
            is_key: Whether it needs none before.
        """
        took_s = now_s - sent_s
        self._least_s = min(self._least_s + _DRIFT * (now_s - self._noted_s), took_s)
        self._noted_s = now_s
        is_late = took_s - self._least_s > _BEHIND_S
        if not is_late:
            self._late_since_s = None
        elif self._late_since_s is None:
            self._late_since_s = now_s
        late_for_s = 0.0 if self._late_since_s is None else now_s - self._late_since_s
        if not self.is_behind:
            self.is_behind = late_for_s > _BEHIND_FOR_S
        elif is_key and (not is_late or late_for_s > 2 * _BEHIND_FOR_S):
            # Still late after so much time, it is the clock of the sender that has changed.
            self._least_s, self._late_since_s = took_s, None
            self.is_behind = False
        return self.is_behind


def _has_end(container: Any) -> bool:
    return container.duration is not None and container.duration > 0


def delay_pixels(frame: Any) -> Callable[[], np.ndarray]:
    """Return what turns a frame of PyAV into pixels, if it is not dropped before."""
    name = "gray" if frame.format.name.startswith("gray") else "rgb24"

    def to_pixels() -> np.ndarray:
        pixels: np.ndarray = frame.to_ndarray(format=name)
        return pixels

    return to_pixels


def _import_av() -> Any:
    try:
        import av
    except ImportError as error:
        raise BackendError(
            "PyAV is not installed, which reads video from addresses. Install it with: "
            f"{install_command('av')}"
        ) from error
    return av
