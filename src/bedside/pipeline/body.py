"""Find the patient in an image: the largest bright thing, without table and air."""

import cv2
import numpy as np

from bedside.pipeline.postprocess.components import components
from bedside.spec import CropBody
from bedside.volume import ImageSequence

_COARSEST = 96
"""Voxels along each axis of the subsample in which the body of a scan is found."""


def find_body(image: np.ndarray, step: CropBody) -> tuple[slice, ...] | None:
    """Box around the body in a frame, with its margin.

    Args:
        image: (H, W), any real dtype.
        step: Threshold and margin.

    Returns:
        The box; None if nothing is bright.
    """
    return _find_box(image, (1, 1), image.shape, step)


def find_body_of_scan(sequence: ImageSequence, step: CropBody) -> tuple[slice, ...] | None:
    """Box around the body in a scan, found in a coarse subsample.

    Args:
        sequence: Its slices, of which only some are decoded.
        step: Threshold and margin.

    Returns:
        The box along (D, H, W) as stored; None if nothing is bright.
    """
    frames, _, height, width = sequence.shape
    shape = (frames, height, width)
    along, down, across = every = tuple(max(1, size // _COARSEST) for size in shape)
    coarse = [
        sequence.decode(index)[:, ::down, ::across].max(axis=0) for index in range(0, frames, along)
    ]
    return _find_box(np.stack(coarse), every, shape, step)


def _find_box(
    looked_at: np.ndarray, every: tuple[int, ...], shape: tuple[int, ...], step: CropBody
) -> tuple[slice, ...] | None:
    coarse = np.nan_to_num(looked_at.astype(np.float32))
    threshold = otsu(coarse) if step.threshold is None else step.threshold
    parts, sizes = components((coarse > threshold).astype(np.uint8))
    if not len(sizes):
        return None
    largest = parts == 1 + int(sizes.argmax())
    spans = []
    for axis in range(coarse.ndim):
        along = largest.any(axis=tuple(other for other in range(coarse.ndim) if other != axis))
        where = np.flatnonzero(along)
        # The body may reach up to the next sample.
        spans.append(((where[0] - 1) * every[axis] + 1, (where[-1] + 1) * every[axis]))
    border = round(step.margin * max(high - low for low, high in spans))
    return tuple(
        slice(int(max(0, low - border)), int(min(size, high + border)))
        for (low, high), size in zip(spans, shape, strict=True)
    )


def otsu(values: np.ndarray) -> float:
    """Threshold that best separates dark from bright values.

    Source:
        Otsu 1979, doi:10.1109/TSMC.1979.4310076.

    Example:
        >>> 0.5 < otsu(np.float32([0, 0, 1, 9, 9, 10])) < 9
        True
    """
    low, high = float(values.min()), float(values.max())
    if low == high:
        return high
    levels = ((values - low) * (255 / (high - low))).astype(np.uint8).reshape(-1, 1)
    level, _ = cv2.threshold(levels, 0, 255, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    # Level by level it is what lies above it, and each level is a step wide.
    return low + (level + 1) * (high - low) / 255
