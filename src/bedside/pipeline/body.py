"""Find the patient in an image: the largest bright thing, without table and air."""

import cv2
import numpy as np

from bedside.pipeline.postprocess.parts import components
from bedside.spec import CropBody

_COARSEST = 96
"""Voxels along each axis of a scan that the body is looked for in; its box is no finer."""


def find_body(image: np.ndarray, step: CropBody) -> tuple[slice, ...] | None:
    """Find the box around the body, with its margin.

    Args:
        image: (H, W) or (D, H, W), any real dtype. A scan is looked at in coarse steps.
        step: Threshold and margin.

    Returns:
        The box; None if nothing is bright.
    """
    every = [max(1, size // _COARSEST) if image.ndim == 3 else 1 for size in image.shape]
    looked_at = image[tuple(slice(None, None, step_px) for step_px in every)]
    coarse = np.nan_to_num(looked_at.astype(np.float32))
    threshold = otsu(coarse) if step.threshold is None else step.threshold
    parts, sizes = components((coarse > threshold).astype(np.uint8))
    if not len(sizes):
        return None
    largest = parts == 1 + int(sizes.argmax())
    spans = []
    for axis in range(image.ndim):
        along = largest.any(axis=tuple(other for other in range(image.ndim) if other != axis))
        where = np.flatnonzero(along)
        # Between two of the looked-at places anything may lie.
        spans.append(((where[0] - 1) * every[axis] + 1, (where[-1] + 1) * every[axis]))
    border = round(step.margin * max(high - low for low, high in spans))
    return tuple(
        slice(int(max(0, low - border)), int(min(size, high + border)))
        for (low, high), size in zip(spans, image.shape, strict=True)
    )


def otsu(values: np.ndarray) -> float:
    """Find the threshold that parts values best into dark and bright.

    Source:
        Otsu 1979, doi:10.1109/TSMC.1979.4310076.

    Example:
        >>> 1 < otsu(np.float32([0, 0, 1, 9, 9, 10])) < 9
        True
    """
    low, high = float(values.min()), float(values.max())
    if low == high:
        return high
    levels = ((values - low) * (255 / (high - low))).astype(np.uint8).reshape(-1, 1)
    level, _ = cv2.threshold(levels, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    # Level by level it is what lies above it, and each level is a step wide.
    return low + (level + 1) * (high - low) / 255
