"""Detection of the ultrasound sector from pixels, for files whose region is wrong or missing."""

from collections.abc import Sequence

import cv2
import numpy as np

from bedside.volume import Box

SMALLEST_SHARE = 0.04
"""Smallest fraction of the frame that a sector covers; less is text or a logo."""

Apex = tuple[float, float]
"""(row, column) at which the sides of a sector meet, often above the image."""

_LINES = 48
"""Rows that the sides of a sector are read from."""


def find_apex(mask: np.ndarray) -> Apex | None:
    """Place at which the sides of a sector meet, the origin of its scan lines.

    Args:
        mask: (H, W), true inside the sector; gaps in it do no harm.

    Returns:
        (row, column) in pixels; None if there is no sector, or its sides are parallel as those
        of a linear probe.

    Example:
        >>> rows, columns = np.mgrid[:80, :101]
        >>> row, column = find_apex(np.abs(columns - 50) <= 0.5 * (rows + 10))
        >>> round(row), round(column)
        (-10, 50)
    """
    points = find_ends(mask)
    if not len(points):
        return None
    rows = points[: len(points) // 2, 1]
    outline = np.zeros(mask.shape, np.uint8)
    cv2.fillConvexPoly(outline, cv2.convexHull(points), 1)
    widest = rows[int(np.argmax(outline[rows].sum(axis=1)))]
    # Neither where the sector begins, which is curved or cut, nor where its far arc ends it.
    chosen = np.linspace(rows[0] + 0.1 * (widest - rows[0]), widest, _LINES)[: -_LINES // 6]
    chosen = np.unique(chosen.round().astype(int))
    if len(chosen) < 8:
        return None
    inside = outline[chosen]
    left = inside.argmax(axis=1)
    right = mask.shape[1] - 1 - inside[:, ::-1].argmax(axis=1)
    left_slope, left_at = _fit_line(chosen, left)
    right_slope, right_at = _fit_line(chosen, right)
    opening = right_slope - left_slope
    if opening < 0.05:
        return None
    row = (left_at - right_at) / opening
    return row, left_at + left_slope * row


def find_ends(mask: np.ndarray) -> np.ndarray:
    """First and last pixel of each row of a mask, of which the convex hull is that of all pixels.

    A hull of all of them takes tens of milliseconds.

    Args:
        mask: (H, W), true inside.

    Returns:
        (2 N, 2) int32, (column, row) of the first pixels of the N rows that have some, from the top
        on, then of the last ones.

    Example:
        >>> find_ends(np.array([[0, 0, 0, 0], [0, 1, 1, 1]])).tolist()
        [[1, 1], [3, 1]]
    """
    filled = mask.astype(np.bool_, copy=False)
    rows = np.flatnonzero(filled.any(axis=1))
    lines = filled[rows]
    ends = lines.argmax(axis=1), mask.shape[1] - 1 - lines[:, ::-1].argmax(axis=1)
    return np.concatenate([np.stack([end, rows], axis=1) for end in ends]).astype(np.int32)


def _fit_line(rows: np.ndarray, columns: np.ndarray) -> tuple[float, float]:
    """Slope and intercept of column over row by Theil and Sen, which outliers leave alone."""
    first, second = np.triu_indices(len(rows), k=1)
    slope = float(np.median((columns[second] - columns[first]) / (rows[second] - rows[first])))
    return slope, float(np.median(columns - slope * rows))


def find_fan(frames: Sequence[np.ndarray], *, floor: float) -> np.ndarray | None:
    """Outline of the ultrasound sector in frames of one view.

    Tissue is a large connected patch above the noise floor; text, rulers and buttons are
    small or thin. In several frames, pixels that never change belong to a drawing, because
    speckle flickers even in dark tissue. A side in shadow is found as the mirror image of
    the other one: a sector is symmetric about the axis through its top.

    Args:
        frames: (H, W) uint8 frames of one sequence.
        floor: Luminance in [0, 255] that the brightest moment of a pixel must pass.

    Returns:
        (H, W) uint8, 255 inside the convex outline of the sector; None if there is none.

    Source:
        Ours.
    """
    stack = np.stack(frames)
    brightest = cv2.blur(stack.max(axis=0), (5, 5))
    lit = (brightest > floor).astype(np.uint8)
    if len(stack) > 2:
        restless = np.ptp(stack, axis=0) > 0
        lit &= cv2.blur(restless.astype(np.float32), (7, 7)) > 0.3
    side = max(3, round(0.02 * min(lit.shape)) | 1)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    lit = cv2.morphologyEx(lit, cv2.MORPH_OPEN, kernel)
    count, parts, stats, _ = cv2.connectedComponentsWithStats(lit)
    if count < 2:
        return None
    largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    if stats[largest, cv2.CC_STAT_AREA] < SMALLEST_SHARE * lit.size:
        return None
    points = find_ends(parts == largest)
    outline = np.zeros(lit.shape, np.uint8)
    cv2.fillConvexPoly(outline, cv2.convexHull(_with_mirror_image(points)), 255)
    return outline


def _with_mirror_image(points: np.ndarray) -> np.ndarray:
    """Points (N, 2) as (column, row), with their reflection about the axis through the top."""
    rows = points[:, 1]
    top = points[rows <= np.quantile(np.unique(rows), 0.03), 0]
    axis = 0.5 * (int(top.min()) + int(top.max()))
    mirrored = np.stack([np.rint(2 * axis - points[:, 0]), rows], axis=1).astype(points.dtype)
    return np.concatenate([points, mirrored])


def bounding_box(mask: np.ndarray, *, margin: float) -> Box:
    """Bounding box of the nonzero part, with a margin clipped to the grid.

    Args:
        mask: (H, W), not all zero.
        margin: Border as a fraction of the larger side of what is enclosed.

    Example:
        >>> bounding_box(np.pad(np.ones((2, 3)), 1), margin=0)
        Box(top=1, left=1, bottom=3, right=4)
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    border = round(margin * max(bottom - top, right - left))
    height, width = mask.shape
    return Box(
        top=int(max(0, top - border)),
        left=int(max(0, left - border)),
        bottom=int(min(height, bottom + border)),
        right=int(min(width, right + border)),
    )
