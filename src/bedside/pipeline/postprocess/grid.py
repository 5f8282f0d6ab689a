"""How labels lie in the patient, as far as repairs need to know."""

from dataclasses import dataclass

import numpy as np

from bedside.volume import Cine

_STEEPEST = 0.5
"""Cosine below which an image's axes say nothing of left and right: 60 degrees away from it."""


@dataclass(frozen=True)
class LabelGrid:
    """Scale and direction of a label map.

    Attributes:
        spacing_mm: Along its axes, (H, W) or (D, H, W); None if unknown.
        left: How far one element along each axis leads to the patient's left, in mm; None if
            unknown, or if the image is cut so that it shows no left.
    """

    spacing_mm: tuple[float, ...] | None = None
    left: tuple[float, ...] | None = None


def grid_of(cine: Cine, *, axes: int, spacing_mm: tuple[float, ...] | None) -> LabelGrid:
    """Read off a cine what repairs need to know of its labels.

    Args:
        cine: What was segmented.
        axes: 2 for labels of a frame, 3 for those of the whole scan.
        spacing_mm: Along the labels' axes; None if it cannot be trusted.
    """
    if cine.geometry is None:
        return LabelGrid(spacing_mm)
    steps = cine.geometry.affine[0, 3 - axes : 3]
    lengths = np.linalg.norm(cine.geometry.affine[:3, 3 - axes : 3], axis=0)
    if np.abs(steps / lengths).max() < _STEEPEST:
        return LabelGrid(spacing_mm)
    return LabelGrid(spacing_mm, tuple(float(step) for step in steps))
