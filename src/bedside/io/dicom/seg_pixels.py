"""The pixels of a DICOM SEG, made frame by frame: bits of each structure, or the labels."""

from collections.abc import Iterable, Sequence

import numpy as np

from bedside.volume import LabelMap


def find_present(labels: LabelMap, values: Sequence[int]) -> np.ndarray:
    """Find which structures are in which frames.

    Args:
        labels: (frames, height, width).
        values: The structures' labels.

    Returns:
        (structures, frames) bool.
    """
    return labels.counts[:, list(values)].T > 0


def pack_bits(labels: LabelMap, wanted: Iterable[tuple[int, int]]) -> bytes:
    r"""Pack the masks of some structures in some frames, one bit a pixel, without a gap.

    Only one mask is unpacked at a time: all of them together would take eight times the
    room, and the structures times the scan.

    Args:
        labels: (frames, height, width).
        wanted: (label, index of the frame) of each mask, in order.

    Returns:
        Bits from the lowest of each byte up; a frame may begin within a byte. Of even length.

    Example:
        >>> labels = LabelMap(np.array([[[1, 0, 1]], [[2, 1, 0]]], np.uint8))
        >>> pack_bits(labels, [(1, 0), (1, 1)])
        b'\x15\x00'
    """
    packed = bytearray()
    rest = np.zeros(0, np.bool_)
    for value, frame in wanted:
        bits = np.concatenate([rest, (labels.array[frame] == value).ravel()])
        whole = len(bits) - len(bits) % 8
        packed += np.packbits(bits[:whole], bitorder="little").tobytes()
        rest = bits[whole:]
    packed += np.packbits(rest, bitorder="little").tobytes()
    return bytes(packed) + b"\0" * (len(packed) % 2)


def gather_labels(labels: LabelMap, frames: Sequence[int]) -> bytes:
    """Return the labels of some frames, one byte a pixel, of even length."""
    content = labels.array[list(frames)] if len(frames) < len(labels.array) else labels.array
    return content.tobytes() + b"\0" * (content.size % 2)
