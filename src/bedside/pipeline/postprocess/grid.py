"""Scale and direction of label maps in the patient."""

import math
from dataclasses import dataclass

import numpy as np

from bedside.errors import GeometryError
from bedside.spec import DropSmall
from bedside.volume import ImageSequence, UnevenSlices

NO_SCALE = "the scale of the image is not known"
"""Why a repair that needs mm was skipped."""

_STEEPEST = 0.5
"""Cosine below which an image's axes say nothing of left and right: 60 degrees away from it."""


@dataclass(frozen=True)
class LabelGrid:
    """Scale and direction of a label map.

    Attributes:
        spacing_mm: Along its axes, (H, W) or (D, H, W); None if unknown.
        left: How far one element along each axis leads to the patient's left, in mm; None if
            unknown, or if the image is cut so that it shows no left.
        uneven: Where the slices of (D, H, W) lie, if they are uneven; the first spacing is then
            what one stands for on average.
    """

    spacing_mm: tuple[float, ...] | None = None
    left: tuple[float, ...] | None = None
    uneven: UnevenSlices | None = None

    def check(self, shape: tuple[int, ...]) -> None:
        """Refuse labels of another shape than the grid's.

        Raises:
            GeometryError: If it has other axes, or its slices are others.
        """
        for values in (self.spacing_mm, self.left):
            if values is not None and len(values) != len(shape):
                raise GeometryError(
                    f"a grid of {len(values)} axes, {values}, is not one of labels of {shape}."
                )
        if self.uneven is not None and len(shape) == 3 and len(self.uneven.heights_mm) != shape[0]:
            raise GeometryError(
                f"places of {len(self.uneven.heights_mm)} slices are none of labels of {shape}."
            )

    @property
    def shares(self) -> np.ndarray | None:
        """Relative thickness that each slice covers, (D,); None where all are alike."""
        return None if self.uneven is None else self.uneven.shares

    @property
    def places(self) -> np.ndarray | None:
        """Where each slice lies, in mean slices from the first, (D,); None where all are alike."""
        return None if self.uneven is None else self.uneven.places


def grid_of(
    sequence: ImageSequence, *, spatial_dims: int, spacing_mm: tuple[float, ...] | None
) -> LabelGrid:
    """Scale and direction of the labels of a sequence.

    Args:
        sequence: What was segmented.
        spatial_dims: 2 for labels of a frame, 3 for those of the whole scan.
        spacing_mm: Along the labels' axes; None if it cannot be trusted.
    """
    uneven = sequence.uneven if spatial_dims == 3 else None
    if sequence.geometry is None:
        return LabelGrid(spacing_mm, uneven=uneven)
    steps = sequence.geometry.affine[0, 3 - spatial_dims : 3]
    lengths = np.linalg.norm(sequence.geometry.affine[:3, 3 - spatial_dims : 3], axis=0)
    if np.abs(steps / lengths).max() < _STEEPEST:
        return LabelGrid(spacing_mm, uneven=uneven)
    return LabelGrid(spacing_mm, tuple(float(step) for step in steps), uneven)


def smallest_px(step: DropSmall, grid: LabelGrid) -> float | None:
    """Smallest size that stays in pixels; None if the scale is unknown."""
    if step.min_px is not None:
        return step.min_px
    if grid.spacing_mm is None:
        return None
    size = step.min_mm2 if step.min_mm2 is not None else 1e3 * (step.min_ml or 0.0)
    # Less a rounding of the division: what has just the size stays.
    return size / math.prod(grid.spacing_mm) * (1 - 1e-9)
