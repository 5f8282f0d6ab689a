"""Refinement of logits by the image before them: a local conditional random field."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from bedside.pipeline.logits import softmax
from bedside.spec import LocalCrf, RefineStep

_DOWN = np.array([-1, -1, -1, 0, 0, 1, 1, 1], np.int32)[:, None]
_ACROSS = np.array([-1, 0, 1, -1, 1, -1, 0, 1], np.int32)[:, None]
_LEAST = 1e-6
"""Affinity that every neighbour has at least."""


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


def refine_local(logits: np.ndarray, guide: np.ndarray, step: LocalCrf, stride: int) -> np.ndarray:
    """Logits to which similar neighbours of undecided pixels have added their votes.

    With Q the softmax of the logits so far, and a the affinity exp(-(I_i - I_j)^2 / 2
    sigma^2) to the eight neighbours at one distance, a round makes the logits
    L_i + weight * sum_j a_ij Q_j / sum_j a_ij, where L are those of the network.

    A pixel whose two best classes lie further apart than `weight` keeps its logits, for no
    vote can change its class. These are nearly all: that makes it fast.

    Args:
        logits: (K, h, w) float32; not changed.
        guide: (h, w) float32 in [0, 1].
        step: Distances, sigma and weight.
        stride: Without meaning here: distances are in logits.

    Returns:
        (K, h, w) float32.

    Source:
        See `bedside.spec.LocalCrf`; leaving out what is decided is ours.
    """
    undecided = np.flatnonzero(_margin(logits) <= step.weight)
    if not len(undecided):
        return logits
    classes, pixels = len(logits), guide.size
    refined = np.array(logits, np.float32).reshape(classes, pixels)
    chances = refined.copy()
    softmax(chances)
    own = refined[:, undecided]
    total = own
    for distance in step.dilations:
        neighbours, votes = _affinities(guide, undecided, distance, step.sigma)
        # Where no neighbour lies within the image, none votes.
        votes *= np.float32(step.weight) / np.maximum(votes.sum(axis=0), np.float32(_LEAST))
        total = own + np.stack(
            [np.einsum("jn,jn->n", plane.take(neighbours), votes) for plane in chances]
        )
        updated = total.copy()
        softmax(updated)
        chances[:, undecided] = updated
    refined[:, undecided] = total
    return refined.reshape(logits.shape)


def _margin(logits: np.ndarray) -> np.ndarray:
    """Margin between the two largest logits of each pixel."""
    best, second = cv2.max(logits[0], logits[1]), cv2.min(logits[0], logits[1])
    for plane in logits[2:]:
        second = cv2.max(second, cv2.min(best, plane))
        best = cv2.max(best, plane)
    margin: np.ndarray = cv2.subtract(best, second)
    return margin


def _affinities(
    guide: np.ndarray, pixels: np.ndarray, distance: int, sigma: float
) -> tuple[np.ndarray, np.ndarray]:
    """The eight neighbours of pixels, and their affinities.

    Returns:
        Where they are, (8, N), and affinities, (8, N) float32; 0 for one beyond the image.
    """
    height, width = guide.shape
    rows, columns = (places.astype(np.int32) for places in np.divmod(pixels, width))
    down, across = rows + distance * _DOWN, columns + distance * _ACROSS
    inside = (down >= 0) & (down < height) & (across >= 0) & (across < width)
    neighbours = np.where(inside, down * width + across, pixels)
    intensities = guide.ravel()
    alike: np.ndarray = intensities.take(neighbours) - intensities.take(pixels)
    alike *= alike
    alike *= np.float32(-0.5 / sigma**2)
    np.exp(alike, out=alike)
    # So little that it counts only where no neighbour is alike at all.
    alike += np.float32(_LEAST)
    alike *= inside
    return neighbours, alike


REFINERS: Mapping[type, Callable[[np.ndarray, np.ndarray, Any, int], np.ndarray]] = {
    LocalCrf: refine_local,
}
