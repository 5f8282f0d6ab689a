"""RLE Lossless frames decoded by Pillow, whose PackBits is C: pydicom's own is Python."""

import struct

import numpy as np
from PIL import Image

_HEADER = struct.Struct("<16I")


def decode_rle(frame: bytes, shape: tuple[int, int, int], dtype: np.dtype) -> np.ndarray | None:
    """Return the pixels of a frame, (H, W, samples); None if it is malformed.

    Args:
        frame: The encoded frame.
        shape: (H, W, samples).
        dtype: Of a stored value, 8 or 16 bits.

    Source:
        DICOM PS3.5 Annex G: a segment for each byte of each sample, the high byte first.
    """
    rows, columns, samples = shape
    size = dtype.itemsize
    count, *offsets = _HEADER.unpack(frame[:64].ljust(64, b"\0"))
    if count != samples * size:
        return None
    content = np.empty((rows * columns, samples * size), np.uint8)
    for number in range(count):
        end = offsets[number + 1] if number + 1 < count else len(frame)
        try:
            # As one row: runs may cross the ends of rows.
            plane = Image.frombytes(
                "L", (rows * columns, 1), frame[offsets[number] : end], "packbits", "L"
            )
        except ValueError:
            return None
        sample, byte = divmod(number, size)
        content[:, sample * size + size - 1 - byte] = np.asarray(plane)[0]
    return content.view(dtype.newbyteorder("<")).reshape(shape)
