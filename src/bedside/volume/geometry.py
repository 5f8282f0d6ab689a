"""Where the elements of an array lie in the patient: one convention, LPS, array order."""

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
