"""Where the elements of an array lie in the patient: one convention, LPS, array order."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bedside.errors import GeometryError


@dataclass(frozen=True)
class Geometry:
    """The grid of an array in patient space.

    Attributes:
        shape: Grid size in voxels, array order: (D, H, W) or (H, W).
        affine: (4, 4) float64. Maps an index in array order, (d, h, w, 1), or (h, w, 0, 1)
            for two axes, to millimetres in LPS (DICOM's: x to the left, y to the back,
            z to the head).
    """

    shape: tuple[int, ...]
    affine: np.ndarray

    def __post_init__(self) -> None:
        """Refuse an affine that cannot place anything.

        Raises:
            GeometryError: If the affine is not (4, 4), not finite, or singular.
        """
        if self.affine.shape != (4, 4) or not np.isfinite(self.affine).all():
            raise GeometryError(f"affine must be a finite 4 x 4 matrix, not {self.affine!r}.")
        if abs(np.linalg.det(self.affine[:3, :3])) < 1e-12:
            raise GeometryError("affine is singular: two axes of the image point the same way.")

    @property
    def spacing_mm(self) -> tuple[float, ...]:
        """Distance between neighbours along each array axis, in mm, array order."""
        lengths = np.linalg.norm(self.affine[:3, :3], axis=0)
        return tuple(float(value) for value in lengths[: len(self.shape)])


def find_lean(geometry: Geometry) -> np.ndarray:
    """Find how far slices move sideways from one to the next, as with a tilted gantry.

    Args:
        geometry: Of an array (D, H, W) whose planes (H, W) have axes at a right angle.

    Returns:
        (row, column) part of the way from slice to slice, for each mm along the normal; zeros
        where the slices move less than half a pixel over the whole scan.

    Example:
        >>> affine = np.array([[0, 0, 1, 0], [0.5, 1, 0, 0], [2.0, 0, 0, 0], [0, 0, 0, 1]])
        >>> find_lean(Geometry((9, 4, 4), affine))
        array([0.25, 0.  ])
    """
    step, down, across = geometry.affine[:3, :3].T
    down_mm, across_mm = np.linalg.norm(down), np.linalg.norm(across)
    normal = np.cross(down, across)
    normal /= np.linalg.norm(normal)
    sideways = np.array([step @ down / down_mm, step @ across / across_mm])
    moved_px = np.abs(sideways) * (geometry.shape[0] - 1) / np.array([down_mm, across_mm])
    if (moved_px < 0.5).all():
        return np.zeros(2)
    return np.asarray(sideways / abs(step @ normal))


def is_unit_grid(spacing_mm: Sequence[float] | None, affine: np.ndarray | None) -> bool:
    """Whether spacing and place are those that programs write when they know none.

    Args:
        spacing_mm: Along (D, H, W), 0 where there is no such axis; None if unknown.
        affine: (4, 4) from an index in array order to mm; None without a place.

    Returns:
        True for 1 mm along every axis, the first voxel at the origin and nothing turned.

    Example:
        >>> is_unit_grid((1.0, 1.0, 1.0), np.eye(4)[:, [2, 1, 0, 3]])
        True
        >>> is_unit_grid((1.0, 1.0, 2.5), None)
        False
    """
    if spacing_mm is None or any(spacing != 1 for spacing in spacing_mm if spacing):
        return False
    return affine is None or bool((affine == np.eye(4)[:, [2, 1, 0, 3]]).all())
