"""Resizing arrays of any number of axes about the centres of their elements."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
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
            moved = np.moveaxis(array, axis, 0)
            flat = np.ascontiguousarray(moved, np.float32).reshape(old, -1)
            resized = (resize_weights(old, size) @ flat).reshape(size, *moved.shape[1:])
            array = np.moveaxis(resized, 0, axis)
    return np.asarray(array, np.float32)


def resize_weights(old: int, new: int) -> "sparse.csr_array":
    """Weights of the old elements for each new one, (new, old); see `resize_linear`.

    Example:
        >>> resize_weights(2, 4).toarray().tolist()
        [[1.0, 0.0], [0.75, 0.25], [0.25, 0.75], [0.0, 1.0]]
    """
    centres = (np.arange(new) + 0.5) * (old / new) - 0.5
    return sample_weights(centres, old, reach=max(1.0, old / new))


def sample_weights(positions: np.ndarray, size: int, *, reach: float = 1.0) -> "sparse.csr_array":
    """Weights of the elements of an axis for each position on it, (positions, size).

    Args:
        positions: In elements, 0 at the centre of the first; outside, the outermost one holds.
        size: Number of elements.
        reach: Half the width of the triangle of weights; 1 is linear interpolation.

    Example:
        >>> sample_weights(np.array([-1.0, 0.25]), 2).toarray().tolist()
        [[1.0, 0.0], [0.75, 0.25]]
    """
    from scipy import sparse  # a third of the import time of the data way, and only for scans

    inside = np.clip(positions, 0, size - 1)
    span = int(np.ceil(reach)) + 1
    nearby = np.floor(inside).astype(int)[:, None] + np.arange(-span + 1, span + 1)
    weights = np.maximum(0.0, 1.0 - np.abs(nearby - inside[:, None]) / reach)
    weights[(nearby < 0) | (nearby >= size)] = 0
    weights /= weights.sum(axis=1, keepdims=True)
    rows = np.repeat(np.arange(len(inside)), nearby.shape[1])
    columns = np.clip(nearby, 0, size - 1).ravel()
    entries = (weights.ravel().astype(np.float32), (rows, columns))
    return sparse.csr_array(entries, shape=(len(inside), size))


def nearest_indices(old: int, new: int) -> np.ndarray:
    """Nearest old element for each element of a resized axis.

    Example:
        >>> nearest_indices(2, 4).tolist()
        [0, 0, 1, 1]
    """
    nearest: np.ndarray = ((np.arange(new) + 0.5) * (old / new)).astype(int)
    inside: np.ndarray = np.minimum(nearest, old - 1)
    return inside
