"""Reads a scan slice by slice: whole, or resampled so that it is never held whole."""

import functools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from bedside.errors import FormatError
from bedside.pipeline.frames.kind import check_decoded
from bedside.pipeline.resize import resize_weights
from bedside.pipeline.value_range import MAX_BROKEN_SHARE
from bedside.system.parallel import ordered_map
from bedside.volume import Geometry, ImageSequence

if TYPE_CHECKING:
    from scipy import sparse


def read_scan(sequence: ImageSequence) -> np.ndarray:
    """Decode all slices of a scan.

    Returns:
        (C, D, H, W), in the stored dtype.

    Raises:
        FormatError: If more than one in a thousand of its values is NaN or infinite.
    """
    array: np.ndarray | None = None
    for index, slice_ in enumerate(_finite_slices(sequence)):
        if array is None:
            array = np.empty((sequence.shape[1], len(sequence), *sequence.shape[2:]), slice_.dtype)
        array[:, index] = slice_
    assert array is not None  # a sequence has a frame at least
    return array


def resample_scan(sequence: ImageSequence, shape: Sequence[int]) -> np.ndarray:
    """Resize a scan as `resize_linear` does, one slice in memory at a time.

    Args:
        sequence: Its slices.
        shape: New (D, H, W), in the stored order of axes.

    Returns:
        (C, *shape) float32.

    Raises:
        FormatError: As `read_scan`.
    """
    frames, channels, height, width = sequence.shape
    depth_weights, row_weights, column_weights = (
        resize_weights(old, new) if old != new else None
        for old, new in zip((frames, height, width), shape, strict=True)
    )
    # Column after column, since what is wanted is where each stored slice goes.
    shares = None if depth_weights is None else depth_weights.tocsc()
    array = np.zeros((channels, *shape), np.float32)

    def shrink(slice_: np.ndarray) -> list[np.ndarray]:
        return [_resize_plane(plane, row_weights, column_weights) for plane in slice_]

    for index, smaller in enumerate(ordered_map(shrink, _finite_slices(sequence))):
        for channel, small in enumerate(smaller):
            if shares is None:
                array[channel, index] = small
                continue
            entries = slice(shares.indptr[index], shares.indptr[index + 1])
            for place, share in zip(shares.indices[entries], shares.data[entries], strict=True):
                array[channel, place] += share * small
    return array


def even_out(sequence: ImageSequence) -> ImageSequence:
    """Interpolate uneven slices onto an even grid, from the first one's edge to the last one's.

    Each frame lies between the slices beside its place, which are weighed linearly; a slice is
    decoded once, as frames are read in their order.

    Args:
        sequence: A scan whose slices are uneven.
    """
    assert sequence.uneven is not None  # callers look
    heights = sequence.uneven.lay_grid()
    blends = [sequence.uneven.blend(height) for height in heights]
    step = float(heights[1] - heights[0])
    read = functools.lru_cache(max(map(len, blends)))(sequence.decode)

    def decode(index: int) -> np.ndarray:
        (first, share), *others = blends[index]
        if not others:
            return read(first)
        whole: np.ndarray = read(first) * np.float32(share)
        for other, weight in others:
            whole += read(other) * np.float32(weight)
        dtype = read(first).dtype
        return whole.astype(dtype) if dtype.kind == "f" else np.rint(whole).astype(dtype)

    geometry = sequence.geometry
    if geometry is not None:
        affine = geometry.affine.copy()
        along = affine[:3, 0] / sequence.uneven.mean_mm
        affine[:3, 0] = along * step
        affine[:3, 3] += along * heights[0]
        geometry = Geometry((len(heights), *geometry.shape[1:]), affine, space="LPS")
    return replace(
        sequence,
        shape=(len(heights), *sequence.shape[1:]),
        decode=decode,
        geometry=geometry,
        slice_spacing_mm=step if sequence.slice_spacing_mm is not None else None,
        unknown=(),
        uneven=None,
    )


def crop_scan(sequence: ImageSequence, box: Sequence[slice]) -> ImageSequence:
    """Cut a box out of a scan, decoding nothing. Its geometry keeps its axes, and not its origin.

    Args:
        sequence: Its slices.
        box: Along (D, H, W) as stored.
    """
    along, *plane = box
    shape = tuple(side.stop - side.start for side in box)
    return replace(
        sequence,
        shape=(shape[0], sequence.shape[1], *shape[1:]),
        decode=lambda index: sequence.decode(index + along.start)[:, *plane],
        geometry=sequence.geometry and replace(sequence.geometry, shape=shape, space="LPS"),
    )


def _resize_plane(
    plane: np.ndarray, rows: "sparse.csr_array | None", columns: "sparse.csr_array | None"
) -> np.ndarray:
    """Resize (H, W) by its two sets of weights; None leaves an axis as it is."""
    small = np.ascontiguousarray(plane, np.float32)
    if rows is not None:
        small = rows @ small
    if columns is not None:
        small = (columns @ np.ascontiguousarray(small.T)).T
    return small


def _finite_slices(sequence: ImageSequence) -> Iterator[np.ndarray]:
    """Decode slice by slice; set the few values that are no numbers to their slice's smallest.

    Raises:
        FormatError: If a slice has another shape than the scan's, or holds no real numbers; at
            the end, if there were many.
    """
    broken, size = 0, 0
    for slice_ in sequence:
        check_decoded(sequence, slice_)
        size += slice_.size
        finite = np.isfinite(slice_) if slice_.dtype.kind == "f" else None
        if finite is None or finite.all():
            yield slice_
            continue
        broken += slice_.size - int(finite.sum())
        yield np.where(finite, slice_, slice_[finite].min() if finite.any() else 0)
    if broken > MAX_BROKEN_SHARE * size:
        raise FormatError(
            f"{100 * broken / size:.1f} % of the values of the scan are NaN or infinite."
        )
