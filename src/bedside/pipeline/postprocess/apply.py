"""Run the repairs of a spec, then check its priors, in their order."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from bedside.pipeline.postprocess.changes import Repair
from bedside.pipeline.postprocess.grid import NO_SCALE, LabelGrid, smallest_px
from bedside.pipeline.postprocess.morphology import closed, opened, reach
from bedside.pipeline.postprocess.parts import components, cut_out, mask_of, remove_parts
from bedside.pipeline.postprocess.priors import check_priors
from bedside.pipeline.postprocess.scans import SCAN_APPLIERS
from bedside.spec import (
    Closing,
    DropSmall,
    FillHoles,
    KeepLargest,
    Opening,
    PostprocessStep,
    Prior,
)


def apply_postprocess(
    labels: np.ndarray,
    steps: Sequence[PostprocessStep],
    *,
    label_values: Sequence[int],
    priors: Sequence[Prior] = (),
    grid: LabelGrid | None = None,
    in_place: bool = False,
) -> tuple[np.ndarray, list[Repair]]:
    """Run every step, then every prior.

    Args:
        labels: (H, W) uint8, or (D, H, W) of a scan; not changed unless `in_place`.
        steps: What is to be done, in order.
        label_values: Values that an empty list of labels in a step stands for.
        priors: What is known of the anatomy, in order.
        grid: Scale and direction of the labels; None if nothing is known of them.
        in_place: Whether the labels given may be changed, so that they are not copied.

    Returns:
        As `labels`, and all that was changed or found odd.
    """
    labels = labels if in_place else labels.copy()
    grid = grid or LabelGrid()
    repairs = []
    for step in steps:
        values = step.labels or label_values
        if labels.ndim == 3 and type(step) in SCAN_APPLIERS:
            repairs += SCAN_APPLIERS[type(step)](labels, step, values, grid)
            continue
        applier = APPLIERS[type(step)]
        for value in values:
            repair = applier(labels, step, value, grid)
            if repair is not None:
                repairs.append(repair)
    if priors:
        repairs += check_priors(labels, priors, grid=grid)
    return labels, repairs


def _keep_largest(
    labels: np.ndarray, step: KeepLargest, value: int, grid: LabelGrid
) -> Repair | None:
    window = cut_out(labels, value)
    if window is None:
        return None
    inside = labels[window]
    parts, sizes = components(mask_of(inside, value))
    if len(sizes) == 1:
        return None
    dropped = np.ones(len(sizes), bool)
    dropped[int(sizes.argmax())] = False
    return Repair(step.step, (value,), "removed", *remove_parts(inside, parts, sizes, dropped))


def _drop_small(labels: np.ndarray, step: DropSmall, value: int, grid: LabelGrid) -> Repair | None:
    window = cut_out(labels, value)
    if window is None:
        return None
    smallest = smallest_px(step, grid)
    if smallest is None:
        return Repair(step.step, (value,), "skipped", expected=NO_SCALE)
    inside = labels[window]
    parts, sizes = components(mask_of(inside, value))
    dropped = sizes < smallest
    if not dropped.any():
        return None
    return Repair(step.step, (value,), "removed", *remove_parts(inside, parts, sizes, dropped))


def _fill_holes(labels: np.ndarray, step: FillHoles, value: int, grid: LabelGrid) -> Repair | None:
    window = cut_out(labels, value)
    if window is None:
        return None
    inside = labels[window]
    mask = mask_of(inside, value)
    outlines, _ = cv2.findContours(mask, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = cv2.drawContours(np.zeros_like(mask), outlines, -1, 255, cv2.FILLED)
    holes = cv2.bitwise_and(cv2.inRange(inside, 0, 0), filled)
    found = cv2.countNonZero(holes)
    if not found:
        return None
    _, sizes = components(holes)
    inside[holes > 0] = value
    return Repair(step.step, (value,), "added", len(sizes), found)


def _open(labels: np.ndarray, step: Opening, value: int, grid: LabelGrid) -> Repair | None:
    radius = _radius_px(step, labels.ndim, grid)
    if radius is None:
        return Repair(step.step, (value,), "skipped", expected=NO_SCALE)
    window = cut_out(labels, value, margin=tuple(side + 1 for side in reach(radius)))
    if window is None:
        return None
    inside = labels[window]
    mask = mask_of(inside, value)
    gone = mask & ~opened(mask, radius)
    count = int(np.count_nonzero(gone))
    if not count:
        return None
    inside[gone > 0] = 0
    return Repair(step.step, (value,), "removed", 0, count)


def _close(labels: np.ndarray, step: Closing, value: int, grid: LabelGrid) -> Repair | None:
    radius = _radius_px(step, labels.ndim, grid)
    if radius is None:
        return Repair(step.step, (value,), "skipped", expected=NO_SCALE)
    window = cut_out(labels, value, margin=tuple(2 * side + 1 for side in reach(radius)))
    if window is None:
        return None
    inside = labels[window]
    added = closed(mask_of(inside, value), radius) & mask_of(inside, 0)
    count = int(np.count_nonzero(added))
    if not count:
        return None
    inside[added > 0] = value
    return Repair(step.step, (value,), "added", 0, count)


def _radius_px(step: Opening | Closing, axes: int, grid: LabelGrid) -> tuple[float, ...] | None:
    """Give the ball's radius along each axis in pixels, if that can be done."""
    if step.radius_px is not None:
        return (step.radius_px,) * axes
    if grid.spacing_mm is None or step.radius_mm is None:
        return None
    return tuple(step.radius_mm / length for length in grid.spacing_mm)


APPLIERS: Mapping[type, Callable[[np.ndarray, Any, int, LabelGrid], Repair | None]] = {
    KeepLargest: _keep_largest,
    FillHoles: _fill_holes,
    DropSmall: _drop_small,
    Opening: _open,
    Closing: _close,
}
