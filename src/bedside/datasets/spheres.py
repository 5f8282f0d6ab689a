"""Findings given as points and diameters, drawn as spheres on a scan's grid."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bedside.errors import DataError
from bedside.volume import Geometry


@dataclass(frozen=True)
class Sphere:
    """A finding.

    Attributes:
        centre_mm: (x, y, z) in the patient, LPS.
        diameter_mm: Above 0.
    """

    centre_mm: tuple[float, float, float]
    diameter_mm: float


def draw_spheres(spheres: Sequence[Sphere], geometry: Geometry) -> np.ndarray:
    """Mark the voxels whose centres lie within a sphere.

    A sphere smaller than the grid still marks the voxel nearest to its centre.

    Args:
        spheres: What to draw.
        geometry: Of the scan, (D, H, W).

    Returns:
        (D, H, W) bool.

    Raises:
        DataError: If a centre lies outside the scan.

    Example:
        >>> grid = Geometry((3, 3, 3), np.eye(4)[:, [2, 1, 0, 3]], space="LPS")
        >>> draw_spheres([Sphere((1.0, 1.0, 1.0), 2.0)], grid)[1].astype(int)
        array([[0, 1, 0],
               [1, 1, 1],
               [0, 1, 0]])
    """
    mask = np.zeros(geometry.shape, bool)
    backward = np.linalg.inv(geometry.affine)
    for sphere in spheres:
        centre = (backward @ (*sphere.centre_mm, 1.0))[:3]
        nearest = np.rint(centre).astype(int)
        if (nearest < 0).any() or (nearest >= geometry.shape).any():
            raise DataError(
                f"a finding at {sphere.centre_mm} mm lies outside the scan, at voxel "
                f"{tuple(nearest.tolist())} of {geometry.shape}."
            )
        # Extent of a sphere along each axis of the array.
        reach = sphere.diameter_mm / 2 * np.linalg.norm(backward[:3, :3], axis=1)
        low = np.maximum(np.floor(centre - reach).astype(int), 0)
        high = np.minimum(np.ceil(centre + reach).astype(int) + 1, geometry.shape)
        box = tuple(slice(*ends) for ends in zip(low.tolist(), high.tolist(), strict=True))
        offsets = np.moveaxis(np.mgrid[box], 0, -1) - centre
        apart_mm = np.linalg.norm(offsets @ geometry.affine[:3, :3].T, axis=-1)
        mask[box] |= apart_mm <= sphere.diameter_mm / 2
        mask[tuple(nearest)] = True
    return mask
