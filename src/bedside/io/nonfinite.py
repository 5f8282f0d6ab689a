"""NaN and infinite voxels: a few are filled with a warning, many are refused."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bedside.errors import InputError

MAX_FRACTION = 0.001
"""Largest part of the voxels that may be NaN or infinite."""


@dataclass(frozen=True)
class NonfiniteVoxels:
    """NaN and infinite voxels of a scan.

    Attributes:
        count: How many.
        smallest: The smallest finite value, which replaces them.
    """

    count: int
    smallest: float

    @property
    def warnings(self) -> tuple[str, ...]:
        """The warning about them, if there are any."""
        if self.count == 0:
            return ()
        words = "1 voxel is" if self.count == 1 else f"{self.count} voxels are"
        were = "was" if self.count == 1 else "were"
        return (f"{words} NaN or infinite and {were} set to the smallest value",)

    def fill(self, frame: np.ndarray) -> np.ndarray:
        """Return a frame with them replaced."""
        if self.count == 0:
            return frame
        return np.where(np.isfinite(frame), frame, frame.dtype.type(self.smallest))


def find_nonfinite(frames: Iterable[np.ndarray], dtype: np.dtype, path: Path) -> NonfiniteVoxels:
    """Count NaN and infinite voxels, slice by slice.

    Args:
        frames: The slices; not read if `dtype` is an integer type.
        dtype: Of a voxel.
        path: Their file, for errors.

    Raises:
        InputError: If more than one in a thousand is not finite.
    """
    if dtype.kind != "f":
        return NonfiniteVoxels(0, 0.0)
    count, total, smallest = 0, 0, np.inf
    for frame in frames:
        finite = np.isfinite(frame)
        count += frame.size - int(finite.sum())
        total += frame.size
        smallest = min(smallest, float(np.min(frame, where=finite, initial=np.inf)))
    if count > MAX_FRACTION * total:
        raise InputError(f"{path}: {count} of {total} voxels are NaN or infinite. Repair it.")
    return NonfiniteVoxels(count, smallest)
