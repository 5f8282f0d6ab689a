"""The side of the probe marker: whether a view is mirrored, judged by the network itself.

A network that was trained on one orientation is surer of its labels in that one. It sees some
frames as they are and mirrored; the orientation of which it is surer is taken for all frames.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import cv2
import numpy as np

from bedside.pipeline.frames.plan import FramePlan
from bedside.spec import MarkerCheck

MARKER_FRAMES = 3
"""Frames that are looked at, evenly spread over those that a plan is made from."""

TURNED = (
    "the view is mirrored left to right: it was turned for the network, and the labels turned "
    "back. Check the probe's marker."
)
UNSURE = (
    "whether the view is mirrored left to right cannot be told; it was taken as it is. Check the "
    "probe's marker."
)


def check_marker(
    plan: FramePlan,
    frames: Sequence[np.ndarray],
    step: MarkerCheck,
    predict: Callable[[np.ndarray], np.ndarray],
) -> FramePlan:
    """Find out whether a view is mirrored.

    Args:
        plan: For the frames as they are.
        frames: (C, H, W) decoded frames of the view, at least one.
        step: How sure the network must be.
        predict: The network, from (1, C, H, W) to logits (1, K, h, w).

    Returns:
        The plan, for mirrored frames and with a warning if they are, with another warning if
        that cannot be told.
    """
    places = np.linspace(0, len(frames) - 1, min(MARKER_FRAMES, len(frames)))
    differences = []
    for place in np.unique(places.round().astype(int)):
        tensor = plan.apply(frames[place])
        for scale in step.scales:
            seen = shrink(tensor, scale)
            mirrored = np.ascontiguousarray(seen[..., ::-1])
            as_it_is, turned = (find_certainty(predict(each)[0]) for each in (seen, mirrored))
            differences.append(as_it_is - turned)
    difference = float(np.mean(differences))
    if difference < -step.margin:
        return replace(plan, mirrored=True, warnings=(*plan.warnings, TURNED))
    if difference <= step.margin:
        return replace(plan, warnings=(*plan.warnings, UNSURE))
    return plan


def shrink(tensor: np.ndarray, scale: float) -> np.ndarray:
    """Shrink the planes of (1, C, H, W), linearly, into the middle of a black tensor."""
    height, width = tensor.shape[2:]
    rows, columns = (max(1, int(scale * size + 0.5)) for size in (height, width))
    if (rows, columns) == (height, width):
        return tensor
    top, left = (height - rows) // 2, (width - columns) // 2
    small = np.zeros_like(tensor)
    for plane, into in zip(tensor[0], small[0], strict=True):
        resized = cv2.resize(plane, (columns, rows), interpolation=cv2.INTER_LINEAR)
        into[top : top + rows, left : left + columns] = resized
    return small


def find_certainty(logits: np.ndarray) -> float:
    """How sure a network is of the labels that it draws, in [0, 1].

    For each structure the soft Dice of its probabilities with its own labels, averaged over
    structures; 0 for one that is not drawn.

    Args:
        logits: (K, h, w), background first.

    Example:
        >>> sure, torn = np.zeros((2, 2, 4, 4))
        >>> sure[1, :2], sure[0, 2:], torn[1, :2] = 9, 9, 0.1
        >>> round(find_certainty(sure), 2), round(find_certainty(torn), 2)
        (1.0, 0.52)
    """
    chances = np.exp(logits - logits.max(axis=0))
    chances /= chances.sum(axis=0)
    labels = logits.argmax(axis=0)
    found = []
    for value in range(1, len(logits)):
        drawn = labels == value
        total = float(chances[value].sum()) + int(drawn.sum())
        found.append(2 * float(chances[value][drawn].sum()) / total if drawn.any() else 0.0)
    return float(np.mean(found))
