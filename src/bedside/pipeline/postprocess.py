"""From label map to label map on the source grid: small repairs, in the order of the spec."""

from collections.abc import Callable, Mapping, Sequence

import cv2
import numpy as np
from scipy import ndimage

from bedside.spec import FillHoles, KeepLargest, PostprocessStep


def apply_postprocess(
    labels: np.ndarray, steps: Sequence[PostprocessStep], *, label_values: Sequence[int]
) -> np.ndarray:
    """Run every step.

    Args:
        labels: (H, W) uint8, or (D, H, W) of a scan; not changed.
        steps: What is to be done, in order.
        label_values: Values that an empty list of labels in a step stands for.

    Returns:
        As `labels`.
    """
    labels = labels.copy()
    appliers, cut_out = (APPLIERS, _cut_out) if labels.ndim == 2 else (APPLIERS_3D, _cut_out_3d)
    for step in steps:
        for value in step.labels or label_values:
            window, part = cut_out(labels, value)
            if part.size:
                appliers[type(step)](window, part, value)
    return labels


def _cut_out(labels: np.ndarray, value: int) -> tuple[np.ndarray, np.ndarray]:
    """View the smallest rectangle that holds a label, and mask the label in it with 255."""
    part = cv2.inRange(labels, value, value)
    left, top, width, height = cv2.boundingRect(part)
    inside = slice(top, top + height), slice(left, left + width)
    return labels[inside], part[inside]


def _keep_largest(labels: np.ndarray, part: np.ndarray, value: int) -> None:
    count, parts, stats, _ = cv2.connectedComponentsWithStats(part, connectivity=8)
    if count > 2:
        largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
        labels[(parts > 0) & (parts != largest)] = 0


def _fill_holes(labels: np.ndarray, part: np.ndarray, value: int) -> None:
    outlines, _ = cv2.findContours(part, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = cv2.drawContours(np.zeros_like(part), outlines, -1, 255, cv2.FILLED)
    holes = cv2.bitwise_and(cv2.inRange(labels, 0, 0), filled)
    if cv2.countNonZero(holes):
        labels[holes > 0] = value


def _cut_out_3d(labels: np.ndarray, value: int) -> tuple[np.ndarray, np.ndarray]:
    """View the smallest box that holds a label, and mask the label in it."""
    part = labels == value
    boxes = ndimage.find_objects(part.astype(np.uint8))
    inside = boxes[0] if boxes else (slice(0),) * 3
    return labels[inside], part[inside]


def _keep_largest_3d(labels: np.ndarray, part: np.ndarray, value: int) -> None:
    parts, count = ndimage.label(part, structure=np.ones((3, 3, 3), bool))
    if count > 1:
        largest = 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))
        labels[(parts > 0) & (parts != largest)] = 0


def _fill_holes_3d(labels: np.ndarray, part: np.ndarray, value: int) -> None:
    labels[ndimage.binary_fill_holes(part) & (labels == 0)] = value


APPLIERS: Mapping[type, Callable[[np.ndarray, np.ndarray, int], None]] = {
    KeepLargest: _keep_largest,
    FillHoles: _fill_holes,
}

APPLIERS_3D: Mapping[type, Callable[[np.ndarray, np.ndarray, int], None]] = {
    KeepLargest: _keep_largest_3d,
    FillHoles: _fill_holes_3d,
}
