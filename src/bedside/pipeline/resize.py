"""Resizing arrays of any number of axes about the centres of their elements."""

from collections.abc import Sequence

import numpy as np
from scipy import sparse


def resize_linear(array: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Resize the last axes of an array linearly; where it shrinks, over wider triangles.

    Both grids cover the same extent, edge to edge. Beyond the outermost centres the
    nearest one holds.

    Args:
        array: (..., *S), any real dtype.
        shape: New sizes of the last axes.

    Returns:
        (..., *shape) float32.

    Example:
        >>> resize_linear(np.float32([0, 2]), (4,)).tolist()
        [0.0, 0.5, 1.5, 2.0]
    """
    first = array.ndim - len(shape)
    for axis, size in enumerate(shape, first):
        old = array.shape[axis]
        if size != old:
            centres = (np.arange(size) + 0.5) * (old / size) - 0.5
            array = sample_axis(array, centres, axis=axis, reach=max(1.0, old / size))
    return np.asarray(array, np.float32)


def sample_axis(
    array: np.ndarray, positions: np.ndarray, *, axis: int, reach: float = 1.0
) -> np.ndarray:
    """Read an array at positions along one axis, linearly.

    Args:
        array: Any real dtype.
        positions: In elements of that axis, 0 at the centre of the first; fractions and
            positions outside are allowed, where the outermost element holds.
        axis: Which.
        reach: Half the width of the triangle that elements are weighted by; 1 is plain
            linear interpolation.

    Returns:
        float32, with as many elements along `axis` as there are positions.
    """
    weights = _triangles(np.clip(positions, 0, array.shape[axis] - 1), array.shape[axis], reach)
    moved = np.moveaxis(array, axis, 0)
    flat = np.ascontiguousarray(moved, np.float32).reshape(len(moved), -1)
    sampled = (weights @ flat).reshape(len(positions), *moved.shape[1:])
    back: np.ndarray = np.moveaxis(sampled, 0, axis)
    return back


def nearest_indices(old: int, new: int) -> np.ndarray:
    """Find, for each element of a resized axis, the nearest of the old ones.

    Example:
        >>> nearest_indices(2, 4).tolist()
        [0, 0, 1, 1]
    """
    nearest: np.ndarray = ((np.arange(new) + 0.5) * (old / new)).astype(int)
    inside: np.ndarray = np.minimum(nearest, old - 1)
    return inside


def _triangles(positions: np.ndarray, size: int, reach: float) -> sparse.csr_array:
    """Weigh the elements near each position; each row of (positions, size) sums to 1."""
    span = int(np.ceil(reach)) + 1
    nearby = np.floor(positions).astype(int)[:, None] + np.arange(-span + 1, span + 1)
    weights = np.maximum(0.0, 1.0 - np.abs(nearby - positions[:, None]) / reach)
    weights[(nearby < 0) | (nearby >= size)] = 0
    weights /= weights.sum(axis=1, keepdims=True)
    rows = np.repeat(np.arange(len(positions)), nearby.shape[1])
    columns = np.clip(nearby, 0, size - 1).ravel()
    entries = (weights.ravel().astype(np.float32), (rows, columns))
    return sparse.csr_array(entries, shape=(len(positions), size))
