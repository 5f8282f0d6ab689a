"""The side of the probe marker: whether a view is mirrored, judged by the network itself.

A network that was trained on one orientation is surer of its labels in that one. It sees some
frames as they are and mirrored; the orientation of which it is surer is taken for all frames.
Where one side of the sector is dark that tells orientations apart no longer: nothing is turned.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Literal

import cv2
import numpy as np

from bedside.pipeline.frames.plan import FramePlan
from bedside.pipeline.logits import draw_masks, softmax
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
LOPSIDED = (
    "one side of the sector is dark, so whether the view is mirrored left to right cannot be told; "
    "it was taken as it is. Check the probe's marker, and its contact."
)

MOST_LEAN = 0.055
"""Columns a row by which the middle of a sector may drift; more, and one side of it is dark.

Of 90 CAMUS validation images none drifts by more than 0.024, and with the outer quarter of the
sector lost on one side none by less than 0.089.
"""

_LIT, _CELL_PX = 0.03, 4
_DEPTHS = (0.35, 0.8)
_FEWEST_ROWS = 6


MarkerVerdict = Literal["as it is", "mirrored", "unsure", "lopsided"]
"""What the network finds of a view."""


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
        that cannot be told, as where one side of the sector is dark.
    """
    certainties = [find_certainty(predict(view)[0]) for view in make_views(plan, frames, step)]
    return turn_plan(plan, judge_views(certainties, step))


def make_views(
    plan: FramePlan, frames: Sequence[np.ndarray], step: MarkerCheck
) -> Iterator[np.ndarray]:
    """Yield what the network is to see, (1, C, H, W): in pairs, as it is and mirrored.

    Nothing if one side of the sector is dark.

    Args:
        plan: For the frames as they are.
        frames: As in `check_marker`.
        step: Scales at which they are seen.
    """
    places = np.linspace(0, len(frames) - 1, min(MARKER_FRAMES, len(frames)))
    tensors = [plan.apply(frames[place]) for place in np.unique(places.round().astype(int))]
    if np.median([find_lean(tensor[0, 0]) for tensor in tensors]) > MOST_LEAN:
        return
    for tensor in tensors:
        for scale in step.scales:
            seen = shrink(tensor, scale)
            yield seen
            yield np.ascontiguousarray(seen[..., ::-1])


def judge_views(certainties: Sequence[float], step: MarkerCheck) -> MarkerVerdict:
    """Find the orientation of which the network is surer.

    Args:
        certainties: `find_certainty` of each view of `make_views`, in its order; none if one side
            of the sector is dark.
        step: How sure it must be.

    Example:
        >>> judge_views([0.7, 0.8, 0.6, 0.9], MarkerCheck(margin=0.1))
        'mirrored'
    """
    if not certainties:
        return "lopsided"
    difference = float(np.mean(np.subtract(certainties[::2], certainties[1::2])))
    if difference < -step.margin:
        return "mirrored"
    return "unsure" if difference <= step.margin else "as it is"


def turn_plan(plan: FramePlan, verdict: MarkerVerdict) -> FramePlan:
    """Plan for frames as the verdict says that they are, with a warning unless they are upright.

    Args:
        plan: For the frames as they are.
        verdict: Of these frames.
    """
    if verdict == "mirrored":
        return replace(plan, mirrored=True, warnings=(*plan.warnings, TURNED))
    if verdict == "unsure":
        return replace(plan, warnings=(*plan.warnings, UNSURE))
    if verdict == "lopsided":
        return replace(plan, warnings=(*plan.warnings, LOPSIDED))
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


def find_lean(plane: np.ndarray) -> float:
    """Columns a row by which the middle between a sector's sides drifts over its depth, 0 or more.

    Args:
        plane: (H, W) of a tensor, black at 0; means over 4 x 4 pixels are looked at.

    Example:
        >>> fan = np.tri(128, dtype=np.float32)
        >>> round(find_lean(np.hstack([fan[:, ::-1], fan])), 2), round(find_lean(fan), 2)
        (0.0, 0.5)
    """
    height, width = (size // _CELL_PX for size in plane.shape)
    cells = plane[: height * _CELL_PX, : width * _CELL_PX]
    lit = cells.reshape(height, _CELL_PX, width, _CELL_PX).mean(axis=(1, 3)) > _LIT
    top, bottom = (int(depth * height) for depth in _DEPTHS)
    rows = top + np.flatnonzero(lit[top:bottom].any(axis=1))
    if len(rows) < _FEWEST_ROWS:
        return 0.0
    middles = (lit[rows].argmax(axis=1) + width - 1 - lit[rows, ::-1].argmax(axis=1)) / 2
    apart = rows - rows.mean()
    return abs(float((apart * middles).sum() / (apart**2).sum()))


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
    chances = np.array(logits, np.float32)
    masks = draw_masks(chances, softmax(chances))[1:]
    likely, drawn = (each.reshape(len(masks), -1) for each in (chances[1:], masks))
    agreed = np.vecdot(drawn.astype(np.float32), likely).tolist()
    expected = np.add.reduce(likely, axis=1).tolist()
    sizes = [np.count_nonzero(mask) for mask in masks]
    found = [
        2 * both / (total + size) if size else 0.0
        for both, total, size in zip(agreed, expected, sizes, strict=True)
    ]
    return float(np.mean(found))
