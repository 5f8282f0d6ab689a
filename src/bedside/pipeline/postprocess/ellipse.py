"""A label made the ellipse along its outline, whatever parts of the outline have gone astray."""

import math
from collections.abc import Sequence

import numpy as np

from bedside.pipeline.postprocess.changes import LabelEdit
from bedside.pipeline.postprocess.components import Window, cut_out
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
_LEAST_SLOPE = 1e-30

# A x^2 + B x y + C y^2 + D x + E y = 1, of coordinates about a point and in parts of a length.
Conic = tuple[np.ndarray, np.ndarray, float]
Sides = tuple[np.ndarray, np.ndarray]


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
        drawn = cut_out(labels, value, margin=(1, 1))
        if drawn is None:
            continue
        sides = _find_sides(_fit(_outline(labels[drawn] == value, drawn)), labels.shape[0])
        window = _join(drawn, sides, labels.shape)
        part = labels[window]
        mask, inside = part == value, _fill(sides, window)
        both = np.count_nonzero(mask & inside)
        if 2 * both < _LEAST_OVERLAP * (np.count_nonzero(mask) + np.count_nonzero(inside)):
            edits.append(LabelEdit(step.step, (value,), "skipped", expected=NO_ELLIPSE))
            continue
        added, removed = inside & (part == 0), mask & ~inside
        part[added], part[removed] = value, 0
        if more := int(np.count_nonzero(added)):
            edits.append(LabelEdit(step.step, (value,), "added", 0, more))
        if fewer := int(np.count_nonzero(removed)):
            edits.append(LabelEdit(step.step, (value,), "removed", 0, fewer))
    return edits


def _outline(mask: np.ndarray, window: Window) -> np.ndarray:
    """Points half-way between neighbours of which one is in the mask, (points, 2) row, column.

    The border of the image is no outline: what it cuts goes on beyond.
    """
    below = np.divmod(np.flatnonzero(mask[1:] != mask[:-1]), mask.shape[1])
    beside = np.divmod(np.flatnonzero(mask[:, 1:] != mask[:, :-1]), mask.shape[1] - 1)
    top, left = (side.start for side in window)
    rows = np.concatenate([below[0] + (top + 0.5), beside[0] + top])
    columns = np.concatenate([below[1] + left, beside[1] + (left + 0.5)])
    return np.column_stack([rows, columns])


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
        slopes = np.maximum(slopes, _LEAST_SLOPE)
        distances = length * np.abs(conic @ terms - 1) / np.sqrt(slopes)
        spread = _SIGMAS * _SIGMA_OF_MEDIAN * float(np.median(distances))
        weights = (distances <= max(spread, _LEAST_TOLERANCE_PX)) / slopes
    return conic, centre, length


def _find_sides(ellipse: Conic | None, height: int) -> Sides:
    """First and last column in an ellipse of each row, as fractions; last < first where none is."""
    if ellipse is None:
        return np.ones(height), np.zeros(height)
    (a, b, c, d, e), (row, column), length = ellipse
    y = (np.arange(height) - row) / length
    linear = b * y + d
    square = linear * linear - 4 * a * (c * y * y + e * y - 1)
    root = np.sqrt(np.maximum(square, 0))
    first = column + length * (-linear - root) / (2 * a)
    last = column + length * (-linear + root) / (2 * a)
    last[square <= 0] = first[square <= 0] - 1
    return first, last


def _join(window: Window, sides: Sides, shape: tuple[int, ...]) -> Window:
    """Smallest window of an image that holds another one and an ellipse."""
    first, last = sides
    rows = np.flatnonzero(last >= first)
    if not rows.size:
        return window
    low = (int(rows[0]), math.floor(first[rows].min()))
    high = (int(rows[-1]) + 1, math.ceil(last[rows].max()) + 1)
    return tuple(
        slice(max(0, min(side.start, begin)), min(size, max(side.stop, end)))
        for side, begin, end, size in zip(window, low, high, shape, strict=True)
    )


def _fill(sides: Sides, window: Window) -> np.ndarray:
    """Mask of a window's pixels whose centre lies between the sides of its row."""
    rows, columns = window
    first, last = (side[rows, None] for side in sides)
    places = np.arange(columns.start, columns.stop)
    inside: np.ndarray = (places >= first) & (places <= last)
    return inside
