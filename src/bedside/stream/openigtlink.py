"""A source of frames from OpenIGTLink, and a sink that sends masks and measurements there."""

import json
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from urllib.parse import urlsplit

import numpy as np

from bedside.errors import BedsideError, FormatError, UsageError
from bedside.igtl import (
    Fault,
    IgtlClient,
    IgtlServer,
    Image,
    Message,
    Sensor,
    Status,
    String,
    Transform,
    Video,
)
from bedside.igtl.connection import DEFAULT_PORT, LOCAL
from bedside.stream.event import Event
from bedside.stream.frames import view_frame
from bedside.stream.protocol import Frame, ScaledFrame
from bedside.stream.video_decoder import VideoDecoder
from bedside.volume import Geometry

_KEPT = 4
_MOST_DEVICES = 64
_UNKNOWN_MM = 1.0


class IgtlFrames:
    """Frames of IMAGE and VIDEO messages; the latest takes the place of one that still waits.

    Its `take` is the `on_item` of a server or client; iterating waits for frames until `close`.
    Damaged messages, and images that are no single whole frame, are errors in place of frames.
    Times are those of the sender, or of the arrival where it sends none. A video by a codec is
    decoded as it comes, as each frame needs those before; PyAV does it (`bedside[av]`).

    Args:
        device: Only images of this name; by default all.

    Attributes:
        dropped: Frames that were not taken before the next came.
        transforms: Latest TRANSFORM by device.
        statuses: Latest STATUS by device.
        peer: What receives the messages, if this closes it.
    """

    def __init__(self, device: str | None = None) -> None:
        self._device = device
        self._changed = threading.Condition()
        self._waiting: tuple[Image | BedsideError, float] | None = None
        self._images: OrderedDict[int, Image] = OrderedDict()
        self._closed, self._time_s = False, 0.0
        self.dropped = 0
        self.transforms: dict[str, Message] = {}
        self.statuses: dict[str, Message] = {}
        self._passed: dict[str, Message] = {}
        self._decoders: dict[tuple[int, str], VideoDecoder] = {}
        self.peer: IgtlClient | IgtlServer | None = None

    def take(self, item: Message | Fault, connection: int = 1) -> None:
        """Take what a peer has sent.

        Args:
            item: A message, or a damaged one.
            connection: Number of the connection; a video begins anew with each.
        """
        if isinstance(item, Fault):
            for each in self._decoders.values():
                each.restart()  # a frame is missing that later ones may need
            self._put(FormatError(f"OpenIGTLink: {item.reason}"), self._time_s)
        elif isinstance(item.content, Image | Video) and self._device in (None, item.device):
            self._time_s = item.time_s or time.time()
            self._put(self._read(item.content, (connection, item.device)), self._time_s)
        elif isinstance(item.content, Transform):
            _keep(self.transforms, item)
        elif isinstance(item.content, Status):
            _keep(self.statuses, item)

    def __iter__(self) -> Iterator[tuple[Frame, float]]:
        """Yield frames, (C, H, W), with their times, each when it has come."""
        number = 0
        while True:
            with self._changed:
                while self._waiting is None and not self._closed:
                    self._changed.wait()
                if self._waiting is None:
                    return
                (found, time_s), self._waiting = self._waiting, None
                if isinstance(found, Image):
                    self._images[number] = found
                if len(self._images) > _KEPT:
                    self._images.popitem(last=False)
            yield (_scale_frame(found) if isinstance(found, Image) else found), time_s
            number += 1

    def find(self, number: int) -> Image | None:
        """The image of a frame by its number; None if it is not kept any more."""
        with self._changed:
            return self._images.get(number)

    def pass_on(self) -> list[Message]:
        """What belongs to the frames: all latest matrices, and statuses that were not passed on."""
        statuses = self.statuses.copy()
        new = [each for name, each in statuses.items() if self._passed.get(name) is not each]
        self._passed = statuses
        return [*self.transforms.copy().values(), *new]

    def close(self) -> None:
        """Close the connection, and end the iteration, after a frame that waits."""
        try:
            if self.peer is not None:
                self.peer.close()
        finally:
            with self._changed:
                self._closed = True
                self._changed.notify_all()

    def _read(self, content: Image | Video, sender: tuple[int, str]) -> Image | BedsideError:
        """A message as one whole frame; else why it is none."""
        if isinstance(content, Image):
            return _check_frame(content)
        if sender not in self._decoders and len(self._decoders) >= _MOST_DEVICES:
            self._decoders.clear()
        try:
            return _decode_video(self._decoders.setdefault(sender, VideoDecoder()), content)
        except BedsideError as error:
            return error

    def _put(self, found: Image | BedsideError, time_s: float) -> None:
        with self._changed:
            self.dropped += self._waiting is not None
            self._waiting = (found, time_s)
            self._changed.notify_all()


def open_igtl(address: str, *, listen: str = LOCAL) -> IgtlFrames:
    """Receive frames from an address, which is connected to again if it is lost.

    Args:
        address: "igtl://HOST:PORT" of a server, or "igtl://:PORT" to be one on this machine;
            the port is 18944 if none is named.
        listen: Address of this machine at which it is one.

    Raises:
        UsageError: If it is no such address, or the port cannot be opened.
    """
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, DEFAULT_PORT if parts.port is None else parts.port
    except ValueError as error:
        raise UsageError(f"{address} is no address: {error}.") from error
    if parts.scheme != "igtl" or parts.path.strip("/"):
        raise UsageError(f"{address} is no address; expected igtl://HOST:PORT or igtl://:PORT.")
    frames = IgtlFrames()
    if host is None:
        frames.peer = IgtlServer(port, host=listen, on_item=lambda number, item: frames.take(item))
    else:
        frames.peer = IgtlClient(port, host=host, on_item=frames.take)
    return frames


def place_frames(
    find: Callable[[int], np.ndarray | None], spacing_mm: tuple[float, float] | None
) -> Callable[[int], Image | None]:
    """Frames of a source without a place, as images at the origin.

    Args:
        find: Finds a frame, (C, H, W).
        spacing_mm: (row, column) distance of pixels; 1 mm is sent if it is not known.
    """

    def find_image(number: int) -> Image | None:
        frame = find(number)
        if frame is None:
            return None
        affine = np.array([[0, 0, 1, 0], [0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1]], float)
        affine[:3, 1:3] *= spacing_mm or (1.0, 1.0)
        geometry = Geometry((1, *frame.shape[1:]), affine, space="LPS")
        return Image(frame[:, None], geometry)

    return find_image


class IgtlSink:
    """Sends each new mask with its frame, and what is told of it.

    In one batch: the mask, which has taken the longest, and its frame as IMAGE in the same place,
    one SENSOR for each structure (area in pixels and cm2, length in pixels and mm; NaN where the
    scale is not known), and the event as JSON in a STRING. An old mask is not sent again: of a
    "stale" event only the STRING is.

    Args:
        send: Of a server or client, which stays open.
        find: Finds the image of a frame by its number.
        device: Name of the frames; masks are "NAME mask", events "NAME event".
        others: Returns messages that are sent with each event, such as `IgtlFrames.pass_on`.
    """

    def __init__(
        self,
        send: Callable[..., object],
        find: Callable[[int], Image | None],
        *,
        device: str = "bedside",
        others: Callable[[], Sequence[Message]] = tuple,
    ) -> None:
        self._send, self._find, self._device, self._others = send, find, device, others
        self._latest = -1

    def write(self, event: Event) -> None:
        """Send an event."""
        time_s = event.time_s
        if not (isinstance(time_s, float | int) and math.isfinite(time_s) and 0 <= time_s < 2**32):
            time_s = 0.0
        batch = []
        image = self._find(event.frame)
        if event.labels is not None and image is not None and event.frame > self._latest:
            self._latest = event.frame
            mask = replace(image, pixels=event.labels[None, None])
            batch += [
                Message(mask, f"{self._device} mask", time_s),
                Message(image, self._device, time_s),
            ]
            for name, each in event.measurements.items():
                values = (each.area_px, each.area_cm2, each.length_px, each.length_mm)
                sensor = Sensor(tuple(math.nan if one is None else float(one) for one in values))
                batch.append(Message(sensor, _shorten(name), time_s))
        text = json.dumps(event.to_mapping(), default=str)
        batch.append(Message(String(text), f"{self._device} event", time_s))
        self._send(*batch, *self._others())

    def close(self) -> None:
        """Nothing: the connection belongs to its owner."""


def _check_frame(image: Image) -> Image | FormatError:
    """An image that is one whole frame; else why not."""
    if image.pixels.shape[1] == 1 and image.pixels.shape[1:] == image.geometry.shape:
        return image
    return FormatError(
        f"the image is {image.pixels.shape[1:]} of a grid {image.geometry.shape}; expected one "
        "whole slice."
    )


def _decode_video(decoder: VideoDecoder, video: Video) -> Image:
    """A frame of a video as an image, at the origin if its place is not known.

    Raises:
        FormatError: If it cannot be decoded.
        BackendError: If PyAV is needed and not installed.
    """
    pixels = view_frame(decoder.decode(video))[:, None]
    geometry = video.geometry or Geometry((1, *video.shape), np.eye(4), space="LPS")
    return Image(pixels, geometry, space=video.space)


def _scale_frame(image: Image) -> ScaledFrame:
    """The pixels, (C, H, W), in the order of bytes of this machine, with their distance.

    Programs that do not know it send 1 mm.
    """
    pixels = image.pixels[:, 0]
    row_mm, column_mm = image.geometry.spacing_mm[1:]
    is_known = (row_mm, column_mm) != (_UNKNOWN_MM, _UNKNOWN_MM)
    return ScaledFrame(
        lambda: pixels.astype(pixels.dtype.newbyteorder("="), copy=False),
        (row_mm, column_mm) if is_known else None,
    )


def _keep(found: dict[str, Message], message: Message) -> None:
    """Keep the latest of each device, of a limited number of them."""
    if message.device in found or len(found) < _MOST_DEVICES:
        found[message.device] = message


def _shorten(name: str) -> str:
    """A name of at most 20 bytes."""
    return name.encode()[:20].decode("utf-8", "ignore")
