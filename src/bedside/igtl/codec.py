"""OpenIGTLink messages to bytes and back: headers of version 1 and 2, and their bodies."""

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from bedside.errors import MessageError
from bedside.igtl.contents import (
    Parts,
    decode_content,
    decode_text,
    encode_content,
    encode_text,
    fixed_text,
)
from bedside.igtl.crc import crc64
from bedside.igtl.messages import Message

_HEADER = struct.Struct(">H12s20sQQQ")
_EXTENDED = struct.Struct(">HHII")
_ENTRY = struct.Struct(">HHI")
HEADER_BYTES = _HEADER.size


@dataclass(frozen=True)
class Header:
    """The 58 bytes before each body.

    Attributes:
        version: 1 or 2.
        type: Name of the type.
        device: Name of the device.
        time_s: Seconds since 1970.
        size: Bytes of the body.
        crc: CRC-64 of the body.
    """

    version: int
    type: str
    device: str
    time_s: float
    size: int
    crc: int


def encode_message(message: Message) -> bytes:
    """A message as it is sent.

    Raises:
        MessageError: If a field of the protocol cannot hold a value.
    """
    return b"".join(encode_parts(message))


def encode_parts(message: Message) -> Parts:
    """A message as it is sent, in parts one behind the other, of which none changes any more.

    Raises:
        MessageError: If a field of the protocol cannot hold a value.
    """
    if message.version not in (1, 2):
        raise MessageError(f"the version is {message.version}; expected 1 or 2.")
    if message.version == 1 and (message.metadata or message.number):
        raise MessageError("metadata and a number need version=2.")
    if not (math.isfinite(message.time_s) and 0 <= message.time_s < 2**32):
        raise MessageError(f"time_s is {message.time_s}; expected seconds since 1970.")
    try:
        type_name, content = encode_content(message.content)
        body = content if message.version == 1 else _extend(content, message)
        size = sum(map(len, body))
        device = fixed_text(message.device, 20, "the name of the device")
        time_raw = min(round(message.time_s * 2**32), 2**64 - 1)
        name = fixed_text(type_name, 12, "the type")
        header = _HEADER.pack(message.version, name, device, time_raw, size, crc64(*body))
        return header, *body
    except (struct.error, OverflowError) as error:
        raise MessageError(f"a value of {message.content!r} is out of range: {error}.") from error


def decode_header(data: bytes | bytearray | memoryview) -> Header:
    """The header that 58 bytes hold.

    Raises:
        MessageError: If they are no header of version 1 or 2.
    """
    version, name, device, time_raw, size, crc = _HEADER.unpack(data)
    name = name.rstrip(b"\0 ")
    if version not in (1, 2) or not name or not name.isascii() or not name.decode().isprintable():
        raise MessageError(
            f"version {version} and type {name!r} are no header of OpenIGTLink; expected version 1 "
            "or 2 and a name."
        )
    text = device.partition(b"\0")[0].decode("utf-8", "replace")
    return Header(version, name.decode(), text, time_raw / 2**32, size, crc)


def decode_body(header: Header, body: bytes) -> Message:
    """The message of a header and a body whose checksum is right.

    Raises:
        MessageError: If the body is not what the type says.
        GeometryError: If the place of an image cannot be trusted.
    """
    number, content = 0, memoryview(body)
    metadata: Mapping[str, str] = {}
    try:
        if header.version == 2:
            number, metadata, content = _split(content)
        return Message(
            decode_content(header.type, content), header.device, header.time_s,
            2 if header.version == 2 else 1, number, metadata,
        )  # fmt: skip
    except struct.error as error:
        raise MessageError(
            f"the body of {header.type} has {len(body)} bytes, too few for its type: {error}."
        ) from error


def _extend(content: Parts, message: Message) -> Parts:
    """Content with the extended header before it and the metadata behind."""
    entries, texts = [struct.pack(">H", len(message.metadata))], []
    for key, value in message.metadata.items():
        name, (encoding, data) = key.encode(), encode_text(value)
        entries.append(_ENTRY.pack(len(name), encoding, len(data)))
        texts += [name, data]
    index, values = b"".join(entries), b"".join(texts)
    extended = _EXTENDED.pack(_EXTENDED.size, len(index), len(values), message.number)
    return extended, *content, index, values


def _split(body: memoryview) -> tuple[int, Mapping[str, str], memoryview]:
    """Number, metadata and content of a body of version 2."""
    size, index_size, values_size, number = _EXTENDED.unpack_from(body)
    end = len(body) - index_size - values_size
    if not _EXTENDED.size <= size <= end:
        raise MessageError(
            f"the extended header has {size} bytes and the metadata {index_size} + {values_size}; "
            f"the body has {len(body)}."
        )
    metadata: dict[str, str] = {}
    index = body[end : end + index_size]
    count = struct.unpack_from(">H", index)[0] if index_size else 0
    place = end + index_size
    for entry in range(count):
        key_size, encoding, value_size = _ENTRY.unpack_from(index, 2 + _ENTRY.size * entry)
        middle, place = place + key_size, place + key_size + value_size
        if place > len(body):
            raise MessageError("the metadata are longer than the body.")
        key = decode_text(106, bytes(body[middle - key_size : middle]))
        metadata[key] = decode_text(encoding, bytes(body[middle:place]))
    return number, metadata, body[size:end]
