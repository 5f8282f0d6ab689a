"""Correction of gantry tilt, and its inverse for labels."""

from dataclasses import dataclass, replace

import numpy as np

from bedside.volume import Geometry, ImageSequence
from bedside.volume.geometry import find_tilt


@dataclass(frozen=True)
class TiltCorrection:
    """In-plane shift of each slice, in whole pixels, that corrects a gantry tilt.

    Whole pixels, because labels then come back exactly where the network drew them; what it
    sees is off by half a pixel at most, less than a resampled border would be on its way back.

    Attributes:
        offsets: (D, 2), row and column of each slice's corner on the larger, corrected grid.
        plane: (height, width) of a slice as stored.
        canvas: (height, width) of the corrected grid.
        affine: Of the corrected grid, in LPS.
    """

    offsets: np.ndarray
    plane: tuple[int, int]
    canvas: tuple[int, int]
    affine: np.ndarray

    def straighten(self, sequence: ImageSequence) -> ImageSequence:
        """The scan on the corrected grid; slices are shifted as they are decoded."""
        depth, channels, *_ = sequence.shape
        return replace(
            sequence,
            shape=(depth, channels, *self.canvas),
            decode=lambda index: self.apply(sequence.decode(index), index),
            geometry=Geometry((depth, *self.canvas), self.affine, space="LPS"),
        )

    def apply(self, slice_: np.ndarray, index: int) -> np.ndarray:
        """One slice, (C, H, W), on the corrected grid, padded with its smallest value."""
        straight = np.full((len(slice_), *self.canvas), slice_.min(), slice_.dtype)
        straight[:, *self._place(index)] = slice_
        return straight

    def undo(self, labels: np.ndarray) -> np.ndarray:
        """Labels or probabilities, (..., D, H, W), back on the stored grid."""
        own = np.empty((*labels.shape[:-2], *self.plane), labels.dtype)
        for index in range(len(self.offsets)):
            own[..., index, :, :] = labels[(..., index, *self._place(index))]
        return own

    def _place(self, index: int) -> tuple[slice, slice]:
        row, column = (int(offset) for offset in self.offsets[index])
        height, width = self.plane
        return slice(row, row + height), slice(column, column + width)


def correct_gantry_tilt(sequence: ImageSequence) -> tuple[ImageSequence, TiltCorrection | None]:
    """Shift the slices of a tilted scan so that they lie above each other.

    Args:
        sequence: As stored; one without a tilt is returned as it is.

    Returns:
        The scan on the corrected grid, and the correction; None if there is no tilt.
    """
    geometry = sequence.geometry
    if geometry is None or not find_tilt(geometry).any():
        return sequence, None
    depth, _, height, width = sequence.shape
    step, down, across = geometry.affine[:3, :3].T
    axes = np.stack([down / (down @ down), across / (across @ across)])
    steps = np.arange(depth, dtype=np.float64)
    if sequence.uneven is not None:
        steps = sequence.uneven.places
    moved = np.rint(steps[:, None] * (axes @ step)).astype(int)
    low, high = moved.min(axis=0), moved.max(axis=0)
    canvas = height + int(high[0] - low[0]), width + int(high[1] - low[1])
    normal = np.cross(down, across)
    normal /= np.linalg.norm(normal)
    affine = geometry.affine.copy()
    affine[:3, 0] = normal * (step @ normal)
    affine[:3, 3] += low[0] * down + low[1] * across
    correction = TiltCorrection(moved - low, (height, width), canvas, affine)
    return correction.straighten(sequence), correction
