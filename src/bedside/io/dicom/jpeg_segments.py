"""Markers, segments and frame headers of a JPEG stream."""

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple

SCAN = 0xDA
# Start of a frame, one marker for each process.
FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_BEGIN, _END = b"\xff\xd8", 0xD9
_FILL = 0xFF
# Neither a coded byte of 255 nor a restart.
_NEXT_MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")


class FrameHeader(NamedTuple):
    """Header of a frame.

    Attributes:
        process: 0 is baseline, 1 extended sequential, 3 lossless.
        precision: Bits of a sample.
        shape: (H, W, samples).
        components: Identifier of each component.
        sampling: Horizontal and vertical sampling factor of each, in one byte.
    """

    process: int
    precision: int
    shape: tuple[int, int, int]
    components: tuple[int, ...]
    sampling: tuple[int, ...]


def read_segments(frame: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield each marker, the content of its segment, and the coded data that follow a scan's.

    Raises:
        ValueError: If it is no JPEG, or damaged.

    Source:
        ITU-T T.81, Annex B.
    """
    if frame[:2] != _BEGIN:
        raise ValueError("no JPEG")
    position = 2
    while position + 4 <= len(frame):
        if frame[position] != _FILL:
            raise ValueError("a misplaced marker")
        marker = frame[position + 1]
        if marker == _END:
            return
        if marker == _FILL:
            position += 1
            continue
        (length,) = unpack(">H", frame[position + 2 : position + 4])
        content = frame[position + 4 : position + 2 + length]
        if length < 2 or len(content) != length - 2:
            raise ValueError("the data ends early")
        position += 2 + length
        coded = b""
        if marker == SCAN:
            found = _NEXT_MARKER.search(frame, position)
            end = found.start() if found else len(frame)
            coded, position = frame[position:end], end
        yield marker, content, coded


def read_frame_header(marker: int, content: bytes) -> FrameHeader:
    """Return the header in a segment whose marker is one of FRAMES.

    Raises:
        ValueError: If it is damaged.
    """
    precision, rows, columns, count = unpack(">BHHB", content[:6])
    if len(content) != 6 + 3 * count:
        raise ValueError("a damaged header")
    return FrameHeader(
        process=marker - 0xC0,
        precision=precision,
        shape=(rows, columns, count),
        components=tuple(content[6::3]),
        sampling=tuple(content[7::3]),
    )


def unpack(form: str, content: bytes) -> tuple[int, ...]:
    """Return numbers; what is missing is a ValueError."""
    try:
        return struct.unpack(form, content)
    except struct.error:
        raise ValueError("the data ends early") from None
