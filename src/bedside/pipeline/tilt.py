"""Straightens a scan whose slices lean, as a tilted gantry leaves them, and leans labels again."""

from dataclasses import dataclass

import numpy as np

from bedside.volume import Geometry, Volume
from bedside.volume.geometry import find_lean


@dataclass(frozen=True)
class Straightening:
    """How far each slice was moved within its plane, by whole pixels.

    Whole pixels, because labels then come back exactly where the network drew them; what it
    sees is off by half a pixel at most, less than a resampled border would be on its way back.

    Attributes:
        offsets: (D, 2), row and column of each slice's corner on the larger, straight grid.
        plane: (height, width) of a slice as stored.
        canvas: (height, width) of the straight grid.
    """

    offsets: np.ndarray
    plane: tuple[int, int]
    canvas: tuple[int, int]

    def apply(self, array: np.ndarray) -> np.ndarray:
        """Move the slices of (C, D, H, W) onto the straight grid; around them is the minimum."""
        straight = np.full((*array.shape[:2], *self.canvas), array.min(), array.dtype)
        for index in range(array.shape[1]):
            straight[:, index, *self._place(index)] = array[:, index]
        return straight

    def undo(self, labels: np.ndarray) -> np.ndarray:
        """Cut the slices of (D, H, W) out of the straight grid."""
        return np.stack([plane[self._place(index)] for index, plane in enumerate(labels)])

    def _place(self, index: int) -> tuple[slice, slice]:
        row, column = (int(offset) for offset in self.offsets[index])
        height, width = self.plane
        return slice(row, row + height), slice(column, column + width)


def straighten(volume: Volume) -> tuple[Volume, Straightening | None]:
    """Move the slices of a leaning scan so that they stand above each other.

    Args:
        volume: As stored; one that does not lean is given back as it is.

    Returns:
        The scan on a straight grid, and the way back; None if there is nothing to undo.
    """
    geometry = volume.geometry
    if geometry is None or not find_lean(geometry).any():
        return volume, None
    depth, height, width = volume.array.shape[1:]
    step, down, across = geometry.affine[:3, :3].T
    axes = np.stack([down / (down @ down), across / (across @ across)])
    moved = np.rint(np.arange(depth)[:, None] * (axes @ step)).astype(int)
    low, high = moved.min(axis=0), moved.max(axis=0)
    canvas = height + int(high[0] - low[0]), width + int(high[1] - low[1])
    straightening = Straightening(moved - low, (height, width), canvas)
    normal = np.cross(down, across)
    normal /= np.linalg.norm(normal)
    affine = geometry.affine.copy()
    affine[:3, 0] = normal * (step @ normal)
    affine[:3, 3] += low[0] * down + low[1] * across
    straight = Volume(
        straightening.apply(volume.array), Geometry((depth, *canvas), affine), volume.spacing_mm
    )
    return straight, straightening
