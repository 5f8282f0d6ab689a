"""Pixels of a DICOM SEG, frame by frame: bits of each structure, or labels."""

from collections.abc import Iterable, Sequence

import numpy as np

from bedside.volume import LabelMap


def find_present(labels: LabelMap, values: Sequence[int]) -> np.ndarray:
    """Return which structures are in which frames.

    Args:
        labels: (frames, height, width).
        values: The structures' labels.

    Returns:
        (structures, frames) bool.
    """
    return labels.counts[:, list(values)].T > 0


def pack_bits(labels: LabelMap, wanted: Iterable[tuple[int, int]]) -> bytes:
    r"""Return masks of structures in frames, packed as one bit per pixel without gaps.

    Masks are unpacked one at a time: all together would take many times the memory of the scan.

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
    """Return the labels of some frames, one byte per pixel, of even length."""
    content = labels.array[list(frames)] if len(frames) < len(labels.array) else labels.array
    return content.tobytes() + b"\0" * (content.size % 2)
