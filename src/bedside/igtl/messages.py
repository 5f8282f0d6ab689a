"""Messages of OpenIGTLink as values."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from bedside.volume import Geometry, Space


@dataclass(frozen=True, eq=False)
class Image:
    """IMAGE: a grid of pixels, or a part of one, with its place.

    Attributes:
        pixels: (C, D, H, W), D = 1 for a frame; read-only if it was received.
        geometry: Of the whole grid, (D, H, W).
        offset: (d, h, w) of the first pixel in the whole grid.
        space: The space in which the sender writes the geometry.
    """

    pixels: np.ndarray = field(repr=False)
    geometry: Geometry
    offset: tuple[int, int, int] = (0, 0, 0)
    space: Space = "LPS"


@dataclass(frozen=True)
class Video:
    """VIDEO: one frame, as a codec has written it.

    Attributes:
        data: What the codec wrote; of "I420" the planes Y, U and V.
        shape: (H, W) of the frame.
        codec: Four letters: "I420", "H264", "VP90", "X265" for HEVC, "AV10", or another.
        geometry: Of the frame, (1, H, W); None if the sender states none.
        frame_type: Of the protocol, 0 to 255: 1 for a key frame.
        is_grey: Whether only Y counts.
        space: The space in which the sender writes the geometry.
    """

    data: bytes = field(repr=False)
    shape: tuple[int, int]
    codec: str = "I420"
    geometry: Geometry | None = None
    frame_type: int = 1
    is_grey: bool = False
    space: Space = "LPS"


@dataclass(frozen=True)
class Status:
    """STATUS: the state of a device; code 1 is "OK".

    Attributes:
        code: Of the protocol, 0 to 65535.
        subcode: Of the device.
        name: Of the error, at most 20 bytes.
        text: For a person.
    """

    code: int
    subcode: int = 0
    name: str = ""
    text: str = ""


@dataclass(frozen=True, eq=False)
class Transform:
    """TRANSFORM: a (4, 4) matrix, its last row (0, 0, 0, 1), in the space of the sender."""

    matrix: np.ndarray


@dataclass(frozen=True)
class String:
    """STRING: a text of at most 65,535 bytes."""

    text: str


@dataclass(frozen=True)
class Sensor:
    """SENSOR: at most 255 numbers with one unit.

    Attributes:
        values: In float64.
        unit: The 64 bits of the protocol's unit; 0 for none.
        status: Of the sensor; reserved.
    """

    values: tuple[float, ...]
    unit: int = 0
    status: int = 0


@dataclass(frozen=True)
class Opaque:
    """Any other type, such as GET_IMAGE, STT_TDATA or POLYDATA, with its content as bytes.

    Attributes:
        type: Name of the type, at most 12 characters.
        data: The content, without the extended header and the metadata.
    """

    type: str
    data: bytes = field(default=b"", repr=False)


Content = Image | Video | Status | Transform | String | Sensor | Opaque


@dataclass(frozen=True, eq=False)
class Message:
    """One message.

    Attributes:
        content: What it carries.
        device: Name of the device or image that it is from, at most 20 bytes.
        time_s: When it was made, in s since 1970; 0 if the sender does not know.
        version: Of the header: 1, or 2 with a number and metadata.
        number: Number of the message, if the version is 2.
        metadata: Texts by name, if the version is 2.
    """

    content: Content
    device: str = ""
    time_s: float = 0.0
    version: Literal[1, 2] = 1
    number: int = 0
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Fault:
    """A message that was refused; the reader goes on behind it.

    Attributes:
        kind: "crc"; "limit" for a body over the limit; "header" for bytes that are no header;
            "content" for a body that is not what its type says; "truncated" for an end in the
            middle; "deadline" for a message that did not become whole in time.
        reason: What is wrong, in a sentence.
        device: Name of the device, if it is known.
    """

    kind: Literal["crc", "limit", "header", "content", "truncated", "deadline"]
    reason: str
    device: str = ""
