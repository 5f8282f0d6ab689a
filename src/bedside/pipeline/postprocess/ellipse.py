"""A label made the ellipse along its outline, whatever parts of the outline have gone astray."""

from collections.abc import Sequence

import numpy as np

from bedside.pipeline.postprocess.changes import LabelEdit
from bedside.pipeline.postprocess.components import cut_out
from bedside.pipeline.postprocess.grid import LabelGrid
from bedside.spec import FitEllipse

NO_ELLIPSE = "its outline is far from an ellipse"
"""Why a label was left as it is."""

_ROUNDS = 10
_FEWEST_POINTS = 12
_SIGMAS = 2.5
_SIGMA_OF_MEDIAN = 1.4826
_LEAST_TOLERANCE_PX = 1.0
_LEAST_ROUNDNESS = 1e-6
_LEAST_OVERLAP = 0.8

# A x^2 + B x y + C y^2 + D x + E y = 1, of coordinates about a point and in parts of a length.
Conic = tuple[np.ndarray, np.ndarray, float]


def fit_ellipse(
    labels: np.ndarray, step: FitEllipse, values: Sequence[int], grid: LabelGrid
) -> list[LabelEdit]:
    """Make labels of a frame ellipses, in place: background inside is filled, the rest removed.

    Args:
        labels: (H, W) uint8.
        step: The step.
        values: Labels that it is for.
        grid: Without meaning: distances are in pixels.
    """
    edits: list[LabelEdit] = []
    for value in values:
        if cut_out(labels, value) is None:
            continue
        mask = labels == value
        inside = _draw(_fit(_outline(mask)), mask.shape)
        both = np.count_nonzero(mask & inside)
        if 2 * both < _LEAST_OVERLAP * (np.count_nonzero(mask) + np.count_nonzero(inside)):
            edits.append(LabelEdit(step.step, (value,), "skipped", expected=NO_ELLIPSE))
            continue
        added, removed = inside & (labels == 0), mask & ~inside
        labels[added], labels[removed] = value, 0
        if more := int(np.count_nonzero(added)):
            edits.append(LabelEdit(step.step, (value,), "added", 0, more))
        if fewer := int(np.count_nonzero(removed)):
            edits.append(LabelEdit(step.step, (value,), "removed", 0, fewer))
    return edits


def _outline(mask: np.ndarray) -> np.ndarray:
    """Points half-way between neighbours of which one is in the mask, (points, 2) row, column.

    The border of the image is no outline: what it cuts goes on beyond.
    """
    below = np.argwhere(mask[1:] != mask[:-1]) + np.array([0.5, 0.0])
    beside = np.argwhere(mask[:, 1:] != mask[:, :-1]) + np.array([0.0, 0.5])
    return np.concatenate([below, beside])


def _fit(points: np.ndarray) -> Conic | None:
    """Fit an ellipse to points of which some are no part of it; None if there is none.

    Each round leaves out the points that lay far from the ellipse of the round before, and
    weighs the algebraic distance of each so that it is nearly that in pixels.

    Source:
        Weights: Sampson, Computer Graphics and Image Processing 18, 1982,
        doi:10.1016/0146-664X(82)90101-0. The scale is the median's, as in Huber's Robust
        Statistics, 1981.
    """
    if len(points) < _FEWEST_POINTS:
        return None
    centre = points.mean(axis=0)
    length = float(np.abs(points - centre).sum(axis=1).mean())
    y, x = ((points - centre) / length).T
    terms = np.stack([x * x, x * y, y * y, x, y])
    weights = np.ones(len(points))
    conic = np.zeros(5)
    for _ in range(_ROUNDS):
        weighted = terms * weights
        try:
            conic = np.linalg.solve(weighted @ terms.T, weighted.sum(axis=1))
        except np.linalg.LinAlgError:
            return None
        a, b, c, d, e = conic
        if not 4 * a * c - b * b > _LEAST_ROUNDNESS * (a + c) ** 2:
            return None
        slopes = (2 * a * x + b * y + d) ** 2 + (b * x + 2 * c * y + e) ** 2
        distances = length * np.abs(conic @ terms - 1) / np.sqrt(slopes)
        spread = _SIGMAS * _SIGMA_OF_MEDIAN * float(np.median(distances))
        weights = (distances <= max(spread, _LEAST_TOLERANCE_PX)) / slopes
    return conic, centre, length


def _draw(ellipse: Conic | None, shape: tuple[int, ...]) -> np.ndarray:
    """Mask of the pixels whose centre lies in an ellipse, row by row between its two sides."""
    height, width = shape
    if ellipse is None:
        return np.zeros((height, width), bool)
    (a, b, c, d, e), (row, column), length = ellipse
    y = (np.arange(height) - row) / length
    linear, constant = b * y + d, c * y * y + e * y - 1
    root = np.sqrt(np.maximum(linear * linear - 4 * a * constant, 0))
    begin = column + length * (-linear - root) / (2 * a)
    end = column + length * (-linear + root) / (2 * a)
    end[root == 0] = -1
    columns = np.arange(width)
    inside: np.ndarray = (columns >= begin[:, None]) & (columns <= end[:, None])
    return inside
