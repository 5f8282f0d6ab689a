"""JPEG frames of 12 bits, decoded by Pillow, which reads them in a TIFF only."""

import io
import struct

import numpy as np
from PIL import Image

from bedside.io.dicom.jpeg_segments import FRAMES, FrameHeader, read_frame_header, read_segments

_SHORT, _LONG = 3, 4
_EXTENDED = 1
_BITS = 12
_DATA = 300


def decode_12_bit_jpeg(frame: bytes, shape: tuple[int, int, int]) -> np.ndarray:
    """Return the pixels of a grey frame of extended sequential JPEG, (H, W) uint16.

    Args:
        frame: The encoded frame.
        shape: (H, W, samples) that is expected.

    Raises:
        ValueError: If the frame is damaged, of another shape, coloured, or not of 12 bits.
    """
    header = _find_header(frame)
    if header.process != _EXTENDED or header.precision != _BITS or shape[2] != 1:
        raise ValueError("not grey of 12 bits")
    if header.shape != shape:
        raise ValueError("it codes {} x {} pixels of {} samples".format(*header.shape))
    try:
        with Image.open(io.BytesIO(_wrap(frame, *shape[:2]))) as image:
            return np.array(image, np.uint16)
    except OSError as error:
        raise ValueError(str(error)) from error


def _find_header(frame: bytes) -> FrameHeader:
    for marker, content, _ in read_segments(frame):
        if marker in FRAMES:
            return read_frame_header(marker, content)
    raise ValueError("the data ends early")


def _wrap(frame: bytes, rows: int, columns: int) -> bytes:
    """A TIFF of one strip of grey values that are compressed as JPEG."""
    entries = {
        256: (_LONG, columns), 257: (_LONG, rows), 258: (_SHORT, _BITS), 259: (_SHORT, 7),
        262: (_SHORT, 1), 273: (_LONG, _DATA), 277: (_SHORT, 1), 278: (_LONG, rows),
        279: (_LONG, len(frame)),
    }  # fmt: skip
    table = b"".join(
        struct.pack("<HHII", tag, kind, 1, value) for tag, (kind, value) in entries.items()
    )
    head = struct.pack("<2sHIH", b"II", 42, 8, len(entries)) + table + bytes(4)
    return head.ljust(_DATA, b"\0") + frame
