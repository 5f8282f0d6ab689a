"""From label map to label map on the source grid: small repairs, in the order of the spec."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from bedside.spec import FillHoles, KeepLargest, PostprocessStep


def apply_postprocess(
    labels: np.ndarray, steps: Sequence[PostprocessStep], *, label_values: Sequence[int]
) -> np.ndarray:
    """Run every step.

    Args:
        labels: (H, W) uint8, not changed.
        steps: What is to be done, in order.
        label_values: Values that an empty list of labels in a step stands for.

    Returns:
        (H, W) uint8.
    """
    labels = labels.copy()
    for step in steps:
        for value in step.labels or label_values:
            APPLIERS[type(step)](labels, value, step)
    return labels


def _keep_largest(labels: np.ndarray, value: int, step: KeepLargest) -> None:
    part = (labels == value).astype(np.uint8)
    count, parts, stats, _ = cv2.connectedComponentsWithStats(part, connectivity=8)
    if count > 2:
        largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
        labels[(parts > 0) & (parts != largest)] = 0


def _fill_holes(labels: np.ndarray, value: int, step: FillHoles) -> None:
    part = (labels == value).astype(np.uint8)
    outlines, _ = cv2.findContours(part, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = cv2.drawContours(np.zeros_like(part), outlines, -1, 1, cv2.FILLED)
    labels[(filled == 1) & (labels == 0)] = value


APPLIERS: Mapping[type, Callable[[np.ndarray, int, Any], None]] = {
    KeepLargest: _keep_largest,
    FillHoles: _fill_holes,
}
