"""Run the refining steps of a spec on the logits of one frame."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from bedside.pipeline.refine.local import refine_local
from bedside.spec import LocalCrf, RefineStep


def refine_logits(
    logits: np.ndarray, tensor: np.ndarray, steps: Sequence[RefineStep], *, stride: int
) -> np.ndarray:
    """Run every step.

    Args:
        logits: (K, h, w) float32; not changed.
        tensor: (1, C, h * stride, w * stride), as the network saw the frame. Its middle
            channel is looked at: of neighbouring slices the frame's own, of colours green,
            which holds most of the light.
        steps: What is to be done, in order.
        stride: Tensor pixels for one logit.

    Returns:
        (K, h, w) float32 logits; a constant added to all classes of a pixel means nothing.
    """
    guide = guide_of(tensor, logits.shape[1:])
    for step in steps:
        logits = REFINERS[type(step)](logits, guide, step, stride)
    return logits


def guide_of(tensor: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The network's input on the grid of its logits, scaled to [0, 1].

    Args:
        tensor: (1, C, H, W).
        shape: (h, w).

    Returns:
        (h, w) float32.
    """
    image = tensor[0, tensor.shape[1] // 2]
    if image.shape != shape:
        image = cv2.resize(image, shape[::-1], interpolation=cv2.INTER_AREA)
    low, high, *_ = cv2.minMaxLoc(image)
    guide: np.ndarray = (image - np.float32(low)) * np.float32(1 / max(high - low, 1e-12))
    return guide


REFINERS: Mapping[type, Callable[[np.ndarray, np.ndarray, Any, int], np.ndarray]] = {
    LocalCrf: refine_local,
}
