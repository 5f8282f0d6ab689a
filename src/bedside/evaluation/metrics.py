"""Metrics of a predicted mask: overlap, and surface distances in mm.

Conventions, the same for 2D and 3D, equal to MONAI's so that results can be compared:

- A mask's surface is its voxels with a background voxel among their face neighbours; what
  lies outside the image is background. Distances run between centres of surface voxels.
- ASD averages over the surface voxels of both masks together. HD95 is the larger of the two
  directed 95th percentiles (linear between ranks), HD the larger of the two maxima.
- Both masks empty: neither overlap nor distance is defined; both are NaN.
- One of them empty: overlap is 0, every distance is infinite.
- Unknown spacing: distances are None. Distances are never given in pixels.

Means are taken over finite values only, and say how many cases they leave out
(`bedside.evaluation.cases`).
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from bedside.errors import GeometryError


@dataclass(frozen=True)
class SurfaceDistances:
    """Distances in mm between the surfaces of two masks.

    Attributes:
        asd_mm: Average symmetric surface distance.
        hd95_mm: Larger of the two directed 95th percentiles.
        hd_mm: Hausdorff distance.
    """

    asd_mm: float
    hd95_mm: float
    hd_mm: float


def dice(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Dice coefficient: twice the intersection over the sum of the sizes.

    Args:
        truth: Boolean mask.
        prediction: Boolean mask on the same grid.

    Returns:
        Dice coefficient in [0, 1]; NaN if both masks are empty.

    Raises:
        GeometryError: If the grids differ.

    Source:
        Dice 1945, doi:10.2307/1932409.

    Example:
        >>> dice(np.array([True, True, False]), np.array([True, False, False]))
        0.6666666666666666
    """
    _check_same_grid(truth, prediction)
    total = np.count_nonzero(truth) + np.count_nonzero(prediction)
    return float(2 * np.count_nonzero(truth & prediction) / total) if total else math.nan


def iou(truth: np.ndarray, prediction: np.ndarray) -> float:
    """Jaccard index: intersection over union.

    Args:
        truth: Boolean mask.
        prediction: Boolean mask on the same grid.

    Returns:
        Jaccard index in [0, 1]; NaN if both masks are empty.

    Raises:
        GeometryError: If the grids differ.

    Example:
        >>> iou(np.array([True, True, False]), np.array([True, False, False]))
        0.5
    """
    _check_same_grid(truth, prediction)
    union = np.count_nonzero(truth | prediction)
    return float(np.count_nonzero(truth & prediction) / union) if union else math.nan


def surface_distances(
    truth: np.ndarray, prediction: np.ndarray, *, spacing_mm: tuple[float, ...]
) -> SurfaceDistances:
    """Surface distances between two masks.

    Args:
        truth: Boolean mask of any number of axes.
        prediction: Boolean mask on the same grid.
        spacing_mm: Distance between neighbours along each array axis.

    Returns:
        Average, 95th percentile and maximum; NaN if both masks are empty, infinite if one is.

    Raises:
        GeometryError: If the grids differ, or the spacing has another number of axes or
            an entry that is not a positive number.

    Source:
        The definitions of MONAI 1.6, `compute_average_surface_distance(symmetric=True)` and
        `compute_hausdorff_distance`, which this agrees with; see the module's first lines.

    Example:
        >>> truth = np.array([[True, False, False]])
        >>> surface_distances(truth, truth[:, ::-1], spacing_mm=(1.0, 0.5)).hd_mm
        1.0
    """
    _check_same_grid(truth, prediction)
    _check_spacing(spacing_mm, truth.ndim)
    if not truth.any() or not prediction.any():
        value = np.inf if truth.any() or prediction.any() else np.nan
        return SurfaceDistances(value, value, value)
    # No surface lies outside the box around both masks, and background lies all around it.
    (box,) = ndimage.find_objects((truth | prediction).astype(np.uint8))
    truth_surface = _surface(truth[box])
    prediction_surface = _surface(prediction[box])
    to_prediction = _distance_to(prediction_surface, spacing_mm)[truth_surface]
    to_truth = _distance_to(truth_surface, spacing_mm)[prediction_surface]
    return SurfaceDistances(
        asd_mm=float(np.concatenate((to_prediction, to_truth)).mean()),
        hd95_mm=float(max(np.percentile(to_prediction, 95), np.percentile(to_truth, 95))),
        hd_mm=float(max(to_prediction.max(), to_truth.max())),
    )


def _surface(mask: np.ndarray) -> np.ndarray:
    """Keep the voxels with background, or the end of the array, among their face neighbours."""
    return np.asarray(mask & ~ndimage.binary_erosion(mask))


def _distance_to(surface: np.ndarray, spacing_mm: tuple[float, ...]) -> np.ndarray:
    """Measure the distance in mm from every voxel to the nearest one of a surface."""
    return np.asarray(ndimage.distance_transform_edt(~surface, sampling=spacing_mm))


def _check_same_grid(truth: np.ndarray, prediction: np.ndarray) -> None:
    """Refuse masks of different shapes, or that are not boolean."""
    if truth.shape != prediction.shape:
        raise GeometryError(
            f"truth is {truth.shape} and prediction {prediction.shape}; they must be equal. "
            "Bring both to one grid first."
        )
    if truth.dtype != bool or prediction.dtype != bool:
        raise GeometryError(
            f"truth is {truth.dtype} and prediction {prediction.dtype}; masks are boolean. "
            "Compare each label map with a label first: labels == 1."
        )


def _check_spacing(spacing_mm: tuple[float, ...], spatial_dims: int) -> None:
    """Refuse a spacing that cannot scale a grid."""
    if len(spacing_mm) != spatial_dims or not all(0 < value < np.inf for value in spacing_mm):
        raise GeometryError(
            f"spacing_mm is {tuple(spacing_mm)}; a mask of {spatial_dims} axes needs "
            f"{spatial_dims} positive numbers."
        )
