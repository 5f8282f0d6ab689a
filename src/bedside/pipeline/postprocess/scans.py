"""Repairs of a whole scan whose components are found slab by slab, for all labels at once."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from bedside.pipeline.components import ConnectedComponents, find_components
from bedside.pipeline.postprocess.changes import LabelEdit
from bedside.pipeline.postprocess.components import cut_out
from bedside.pipeline.postprocess.grid import NO_SCALE, LabelGrid, smallest_px
from bedside.spec import DropSmall, FillHoles, KeepLargest, KeepLargestInScan


def _keep_largest(
    labels: np.ndarray,
    step: KeepLargest | KeepLargestInScan,
    values: Sequence[int],
    grid: LabelGrid,
) -> list[LabelEdit]:
    found = _find(labels, values, grid)
    dropped = np.zeros(len(found.sizes), bool)
    for value in values:
        own = np.flatnonzero(found.values == value)
        dropped[own] = True
        if own.size:
            dropped[own[found.amounts[own].argmax()]] = False
    return _remove(labels, found, dropped, step.step, values)


def _drop_small(
    labels: np.ndarray, step: DropSmall, values: Sequence[int], grid: LabelGrid
) -> list[LabelEdit]:
    smallest = smallest_px(step, grid)
    found = _find(labels, values, grid)
    if smallest is None:
        present = set(found.values.tolist())
        return [
            LabelEdit(step.step, (value,), "skipped", expected=NO_SCALE)
            for value in values
            if value in present
        ]
    return _remove(labels, found, found.amounts < smallest, step.step, values)


def _fill_holes(
    labels: np.ndarray, step: FillHoles, values: Sequence[int], grid: LabelGrid
) -> list[LabelEdit]:
    edits = []
    for value in values:
        window = cut_out(labels, value)
        if window is None:
            continue
        inside = labels[window]
        depth, height, width = inside.shape
        others = functools.partial(_others, inside, value)
        around = find_components(others, (depth, height, width), connectivity=6)
        filled, holes = 0, set()
        for slab, numbers in around.select(~around.on_border):
            empty = (numbers >= 0) & (inside[slab] == 0)
            holes.update(np.unique(numbers[empty]).tolist())
            filled += int(np.count_nonzero(empty))
            inside[slab][empty] = value
        if filled:
            edits.append(LabelEdit(step.step, (value,), "added", len(holes), filled))
    return edits


def _others(labels: np.ndarray, value: int, slab: slice) -> np.ndarray:
    """Mask of everything but a label in a part of a map, uint8."""
    mask: np.ndarray = labels[slab] != value
    return mask.view(np.uint8)


def _find(labels: np.ndarray, values: Sequence[int], grid: LabelGrid) -> ConnectedComponents:
    """Connected components of some labels."""
    kept = np.zeros(256, np.uint8)
    kept[list(values)] = list(values)
    depth, height, width = labels.shape

    def read(slab: slice) -> np.ndarray:
        rows = np.ascontiguousarray(labels[slab]).reshape(-1, width)
        return cv2.LUT(rows, kept).reshape(-1, height, width)

    return find_components(read, (depth, height, width), shares=grid.shares)


def _remove(
    labels: np.ndarray,
    found: ConnectedComponents,
    dropped: np.ndarray,
    step: str,
    values: Sequence[int],
) -> list[LabelEdit]:
    """Turn components into background; one edit per label."""
    for slab, numbers in found.select(dropped):
        labels[slab] *= numbers < 0
    edits = []
    for value in values:
        gone = dropped & (found.values == value)
        if gone.any():
            count, size = int(np.count_nonzero(gone)), int(found.sizes[gone].sum())
            edits.append(LabelEdit(step, (value,), "removed", count, size))
    return edits


SCAN_APPLIERS: Mapping[
    type, Callable[[np.ndarray, Any, Sequence[int], LabelGrid], list[LabelEdit]]
] = {
    KeepLargest: _keep_largest,
    KeepLargestInScan: _keep_largest,
    DropSmall: _drop_small,
    FillHoles: _fill_holes,
}
