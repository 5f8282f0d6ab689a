"""Bodies of OpenIGTLink messages by type."""

import math
import struct
from collections.abc import Callable
from typing import Any

import numpy as np

from bedside.errors import MessageError
from bedside.igtl.messages import Content, Image, Opaque, Sensor, Status, String, Transform
from bedside.igtl.places import check_part, decode_place, encode_place
from bedside.igtl.video import decode_video, encode_video

_IMAGE = struct.Struct(">HBBBB3H12f6H")
_STATUS = struct.Struct(">Hq20s")
_TRANSFORM = struct.Struct(">12f")
_SENSOR = struct.Struct(">BBQ")
_TYPES = {2: "i1", 3: "u1", 4: "i2", 5: "u2", 6: "i4", 7: "u4", 10: "f4", 11: "f8"}
_NUMBERS = {np.dtype(name): number for number, name in _TYPES.items()}
_ENCODINGS = {3: "ascii", 4: "latin-1", 106: "utf-8"}


Parts = tuple[bytes | memoryview, ...]
"""Bytes of a body, one behind the other, which are put together once."""


def encode_content(content: Content) -> tuple[str, Parts]:
    """Name of the type, and the parts of the body.

    Raises:
        MessageError: If the protocol has no form for it.
    """
    if isinstance(content, Opaque):
        return content.type, (content.data,)
    if isinstance(content, Image):
        return "IMAGE", _encode_image(content)
    name = type(content).__name__.upper()
    encoders: dict[str, Callable[[Any], bytes]] = {
        "STATUS": _encode_status, "TRANSFORM": _encode_transform, "STRING": _encode_string,
        "SENSOR": _encode_sensor, "VIDEO": encode_video,
    }  # fmt: skip
    return name, (encoders[name](content),)


def decode_content(name: str, data: memoryview) -> Content:
    """The content of a body; `Opaque` for any type that is not known.

    Raises:
        MessageError: If the body is not what the type says.
        GeometryError: If the place of an image cannot be trusted.
    """
    decoders: dict[str, Callable[[memoryview], Content]] = {
        "IMAGE": _decode_image, "STATUS": _decode_status, "TRANSFORM": _decode_transform,
        "STRING": _decode_string, "SENSOR": _decode_sensor, "VIDEO": decode_video,
    }  # fmt: skip
    return decoders[name](data) if name in decoders else Opaque(name, bytes(data))


def encode_text(text: str) -> tuple[int, bytes]:
    """Number of the encoding and bytes: ASCII where that holds the text, else UTF-8."""
    return (3 if text.isascii() else 106), text.encode()


def decode_text(encoding: int, data: bytes) -> str:
    """A text by the number of its encoding.

    Raises:
        MessageError: If the encoding is none of ASCII, Latin-1 and UTF-8, or not that of the text.
    """
    try:
        return data.decode(_ENCODINGS[encoding])
    except (KeyError, UnicodeDecodeError) as error:
        raise MessageError(
            f"a text of {len(data)} bytes has the encoding {encoding}; expected 3 (ASCII), "
            f"4 (Latin-1) or 106 (UTF-8) and bytes of it: {error}."
        ) from error


def fixed_text(text: str, size: int, what: str) -> bytes:
    """A text in UTF-8 of at most `size` bytes.

    Raises:
        MessageError: If it is longer.
    """
    data = text.encode()
    if len(data) > size:
        raise MessageError(f"{what} is {text!r}, {len(data)} bytes; expected at most {size}.")
    return data


def _encode_image(image: Image) -> Parts:
    pixels, grid = image.pixels, image.geometry.shape
    number = _NUMBERS.get(pixels.dtype.newbyteorder("="))
    if number is None or pixels.ndim != 4 or pixels.shape[0] not in (1, 3) or len(grid) != 3:
        raise MessageError(
            f"the image is {pixels.shape} {pixels.dtype} on a grid {grid}; expected (1, D, H, W) "
            f"or (3, D, H, W) on (D, H, W), of one of {', '.join(_TYPES.values())}."
        )
    check_part(image.offset, pixels.shape[1:], grid)
    coord, matrix = encode_place(image.geometry, image.space)
    little = pixels.dtype.str[0] in "<|"
    rows = np.ascontiguousarray(np.moveaxis(pixels, 0, -1))
    if np.may_share_memory(rows, pixels) and not _is_frozen(pixels):
        rows = rows.copy()  # it is sent later, when it may have been changed
    head = _IMAGE.pack(
        1, pixels.shape[0], number, 2 if little else 1, coord,
        *grid[::-1], *matrix, *image.offset[::-1], *pixels.shape[:0:-1],
    )  # fmt: skip
    return head, rows.data.cast("B")


def _is_frozen(array: np.ndarray) -> bool:
    """Whether an array lies in bytes, as one that was received does: nothing can change it."""
    base: Any = array
    while isinstance(base, np.ndarray):
        base = base.base
    return isinstance(base.obj if isinstance(base, memoryview) else base, bytes)


def _decode_image(data: memoryview) -> Image:
    _, components, number, endian, coord, *rest = _IMAGE.unpack_from(data)
    grid, offset, shape = (tuple(part[::-1]) for part in (rest[:3], rest[15:18], rest[18:21]))
    if components not in (1, 3) or number not in _TYPES or endian not in (1, 2):
        raise MessageError(
            f"the image has {components} components of type {number}, endian {endian}; expected 1 "
            f"or 3 of type {', '.join(map(str, _TYPES))}, endian 1 or 2."
        )
    geometry, space = decode_place(coord, rest[3:15], grid)
    check_part(offset, shape, grid)
    dtype = np.dtype(_TYPES[number]).newbyteorder(">" if endian == 1 else "<")
    expected = math.prod(shape) * components * dtype.itemsize
    if len(data) - _IMAGE.size != expected:
        raise MessageError(
            f"the image has {len(data) - _IMAGE.size} bytes of pixels; expected {expected} for "
            f"{components} x {shape} {dtype}."
        )
    pixels = np.frombuffer(data, dtype, offset=_IMAGE.size).reshape(*shape, components)
    return Image(np.moveaxis(pixels, -1, 0), geometry, offset, space)


def _encode_status(status: Status) -> bytes:
    name = fixed_text(status.name, 20, "the name of the error")
    return _STATUS.pack(status.code, status.subcode, name) + status.text.encode() + b"\0"


def _decode_status(data: memoryview) -> Status:
    code, subcode, name = _STATUS.unpack_from(data)
    texts = (part.partition(b"\0")[0] for part in (name, bytes(data[_STATUS.size :])))
    return Status(code, subcode, *(part.decode("utf-8", "replace") for part in texts))


def _encode_transform(transform: Transform) -> bytes:
    matrix = np.asarray(transform.matrix, np.float64)
    if matrix.shape != (4, 4) or not np.array_equal(matrix[3], (0, 0, 0, 1)):
        raise MessageError(
            f"the matrix is {matrix.tolist()}; expected (4, 4), its last row 0, 0, 0, 1."
        )
    return _TRANSFORM.pack(*matrix[:3].T.ravel())


def _decode_transform(data: memoryview) -> Transform:
    matrix = np.eye(4)
    matrix[:3] = np.reshape(_TRANSFORM.unpack(data), (4, 3)).T
    return Transform(matrix)


def _encode_string(string: String) -> bytes:
    encoding, data = encode_text(string.text)
    return struct.pack(">HH", encoding, len(data)) + data


def _decode_string(data: memoryview) -> String:
    encoding, size = struct.unpack_from(">HH", data)
    if len(data) != 4 + size:
        raise MessageError(f"the text has {len(data) - 4} bytes; expected {size}.")
    return String(decode_text(encoding, bytes(data[4:])))


def _encode_sensor(sensor: Sensor) -> bytes:
    count = len(sensor.values)
    return _SENSOR.pack(count, sensor.status, sensor.unit) + struct.pack(
        f">{count}d", *sensor.values
    )


def _decode_sensor(data: memoryview) -> Sensor:
    count, status, unit = _SENSOR.unpack_from(data)
    return Sensor(struct.unpack(f">{count}d", data[_SENSOR.size :]), unit, status)
