"""Position of array elements in the patient: one convention, LPS, array order."""

from collections.abc import Sequence
from dataclasses import KW_ONLY, InitVar, dataclass
from typing import Literal

import numpy as np

from bedside.errors import GeometryError

Space = Literal["LPS", "RAS"]
"""What x, y and z of an affine run to: left, back and head (DICOM, ITK), or right, front and
head (NIfTI, nibabel)."""

# Cosine of an angle that is taken for a right one: the area of a pixel is off by 0.1 %.
_MOST_SKEW = 0.05

# A slant of less changes distances by less than they are rounded.
_STRAIGHT = 1e-6

_TO_LPS = {"LPS": np.eye(4), "RAS": np.diag([-1.0, -1.0, 1.0, 1.0])}


@dataclass(frozen=True)
class Geometry:
    """The grid of an array in patient space.

    The space of the affine must be named: no check can tell LPS from RAS, and the wrong one
    exchanges left and right.

    Attributes:
        shape: Grid size in voxels, array order: (D, H, W) or (H, W).
        affine: (4, 4) float64. Maps an index in array order, (d, h, w, 1), or (h, w, 0, 1)
            for two axes, to millimetres in LPS (DICOM's: x to the left, y to the back,
            z to the head); converted if it was given in RAS.
        space: The space that `affine` is given in.

    Example:
        >>> Geometry((3, 4, 5), np.diag([1.0, 2.0, 3.0, 1.0]), space="RAS").affine.diagonal()
        array([-1., -2.,  3.,  1.])
    """

    shape: tuple[int, ...]
    affine: np.ndarray
    _: KW_ONLY
    space: InitVar[Space]

    def __post_init__(self, space: Space) -> None:
        """Convert the affine to LPS.

        Raises:
            GeometryError: If the affine is not (4, 4), not finite or singular, or its last row is
                not 0, 0, 0, 1; or if the space is neither LPS nor RAS.
        """
        if space not in _TO_LPS:
            raise GeometryError(
                f'the space of an affine is {space!r}; expected "LPS", as of DICOM and ITK, or '
                '"RAS", as of NIfTI and nibabel.'
            )
        if self.affine.shape != (4, 4) or not np.isfinite(self.affine).all():
            raise GeometryError(
                f"affine must be a finite 4 x 4 matrix, not {self.affine.tolist()}."
            )
        if abs(np.linalg.det(self.affine[:3, :3])) < 1e-12:
            raise GeometryError("affine is singular: two axes of the image point the same way.")
        if not np.allclose(self.affine[3], (0, 0, 0, 1)):
            raise GeometryError(
                f"affine has the last row {self.affine[3].tolist()}; expected [0, 0, 0, 1]."
            )
        if space != "LPS":
            object.__setattr__(self, "affine", _TO_LPS[space] @ self.affine)

    @property
    def spacing_mm(self) -> tuple[float, ...]:
        """Distance between neighbours along each array axis, in mm, array order."""
        lengths = np.linalg.norm(self.affine[:3, :3], axis=0)
        return tuple(float(value) for value in lengths[: len(self.shape)])

    @property
    def slant(self) -> float:
        """Distance of the planes of a (D, H, W) grid by the step from slice to slice.

        1 where slices lie straight above each other, less with a tilted gantry.
        """
        step, down, across = self.affine[:3, :3].T
        normal = np.cross(down, across)
        slant = float(abs(step @ normal) / (np.linalg.norm(normal) * np.linalg.norm(step)))
        return slant if slant < 1 - _STRAIGHT else 1.0

    @property
    def skew(self) -> float:
        """Cosine of the angle between rows and columns, 0 if they are perpendicular."""
        *_, down, across = self.affine[:3, : len(self.shape)].T
        return float(abs(down @ across) / (np.linalg.norm(down) * np.linalg.norm(across)))


def check_right_angles(geometry: Geometry) -> None:
    """Refuse a grid whose pixels are no rectangles, of which nothing here takes account.

    Affine registration leaves small angles: an area is off by a thousandth at most.

    Args:
        geometry: The grid of an image; its last two axes are rows and columns.

    Raises:
        GeometryError: If rows and columns are far from perpendicular.
    """
    if geometry.skew > _MOST_SKEW:
        angle = np.degrees(np.arccos(geometry.skew))
        raise GeometryError(
            f"rows and columns of the image meet at {angle:.0f} degrees by its affine; expected a "
            "right angle. Resample it to a grid without shear."
        )


def scale_geometry(geometry: Geometry, spacing_mm: Sequence[float]) -> Geometry:
    """Return a grid with another spacing, in the same place and direction.

    Args:
        geometry: The grid.
        spacing_mm: Of its last axes, array order.

    Example:
        >>> grid = Geometry((3, 4, 5), np.eye(4), space="LPS")
        >>> scale_geometry(grid, (0.5, 0.75)).spacing_mm
        (1.0, 0.5, 0.75)
    """
    affine = geometry.affine.copy()
    count = len(geometry.shape)
    for axis, (own, wanted) in enumerate(
        zip(geometry.spacing_mm[-len(spacing_mm) :], spacing_mm, strict=True),
        start=count - len(spacing_mm),
    ):
        affine[:3, axis] *= wanted / own
    return Geometry(geometry.shape, affine, space="LPS")


def corners_apart(one: np.ndarray, other: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """Return the distances in mm, (8,), of a grid's corners under two affines.

    Args:
        one: (4, 4), index to mm.
        other: The same.
        shape: Voxels along each axis, (3,).

    Example:
        >>> corners_apart(np.eye(4), np.diag([2.0, 1.0, 1.0, 1.0]), np.array([4, 2, 2]))
        array([0., 0., 0., 0., 3., 3., 3., 3.])
    """
    corners = np.indices((2, 2, 2)).reshape(3, -1) * (shape - 1)[:, None]
    difference = other - one
    return np.asarray(np.linalg.norm(difference[:3, :3] @ corners + difference[:3, 3:], axis=0))


def find_tilt(geometry: Geometry) -> np.ndarray:
    """Return how far slices shift sideways from one to the next, as with a tilted gantry.

    Args:
        geometry: Of an array (D, H, W) whose planes (H, W) have axes at a right angle.

    Returns:
        (row, column) shift in mm per mm along the normal; zeros
        where the slices move less than half a pixel over the whole scan.

    Example:
        >>> affine = np.array([[0, 0, 1, 0], [0.5, 1, 0, 0], [2.0, 0, 0, 0], [0, 0, 0, 1]])
        >>> find_tilt(Geometry((9, 4, 4), affine, space="LPS"))
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
    """Whether spacing and origin are the defaults that programs write when none is known.

    Args:
        spacing_mm: Along (D, H, W), 0 where there is no such axis; None if unknown.
        affine: (4, 4) from an index in array order to mm; None without a place.

    Returns:
        True for 1 mm along every axis, the first voxel at the origin and no rotation.

    Example:
        >>> is_unit_grid((1.0, 1.0, 1.0), np.eye(4)[:, [2, 1, 0, 3]])
        True
        >>> is_unit_grid((1.0, 1.0, 2.5), None)
        False
    """
    if spacing_mm is None or any(spacing != 1 for spacing in spacing_mm if spacing):
        return False
    return affine is None or bool((affine == np.eye(4)[:, [2, 1, 0, 3]]).all())
