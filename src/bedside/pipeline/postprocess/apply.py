"""Runs the repairs of a spec, then its priors, in order."""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import cv2
import numpy as np

from bedside.pipeline.postprocess.changes import LabelEdit
from bedside.pipeline.postprocess.components import (
    Window,
    components,
    count_by_slice,
    cut_out,
    mask_of,
    remove_parts,
    weigh_change,
)
from bedside.pipeline.postprocess.ellipse import fit_ellipse
from bedside.pipeline.postprocess.grid import NO_SCALE, LabelGrid, smallest_px
from bedside.pipeline.postprocess.morphology import closed, opened, reach
from bedside.pipeline.postprocess.priors import check_priors
from bedside.pipeline.postprocess.scans import SCAN_APPLIERS
from bedside.spec import (
    Closing,
    DropSmall,
    FillHoles,
    FitEllipse,
    KeepLargest,
    KeepLargestInScan,
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
) -> tuple[np.ndarray, list[LabelEdit]]:
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

    Raises:
        GeometryError: If the grid is one of other axes or slices than the labels have.
    """
    labels = labels if in_place else labels.copy()
    grid = grid or LabelGrid()
    grid.check(labels.shape)
    edits = []
    for step in steps:
        run = functools.partial(_run_step, labels, step, step.labels or label_values, grid)
        edits += _weighed(run, labels, grid)
    for prior in priors:
        run = functools.partial(check_priors, labels, [prior], grid=grid)
        edits += _weighed(run, labels, grid)
    return labels, edits


def _run_step(
    labels: np.ndarray, step: PostprocessStep, values: Sequence[int], grid: LabelGrid
) -> list[LabelEdit]:
    """Run one repair on every label that it is for."""
    of_all = SCAN_APPLIERS if labels.ndim == 3 else FRAME_APPLIERS
    if type(step) in of_all:
        return of_all[type(step)](labels, step, values, grid)
    applier = APPLIERS[type(step)]
    found = (applier(labels, step, value, grid) for value in values)
    return [edit for edit in found if edit is not None]


def _weighed(
    run: Callable[[], list[LabelEdit]], labels: np.ndarray, grid: LabelGrid
) -> list[LabelEdit]:
    """Run edits, and weigh them by the thickness that uneven slices cover."""
    if grid.shares is None:
        return run()
    before = count_by_slice(labels)
    edits = run()
    # No step takes from a label and gives to it at once, but for two that change places.
    changed = weigh_change(before, labels, grid.shares)
    both = grid.shares @ before
    amounts = {
        "removed": lambda edit: changed[edit.labels[0]],
        "added": lambda edit: changed[edit.labels[0]],
        "exchanged": lambda edit: both[list(edit.labels)].sum(),
    }
    return [
        edit._replace(amount=float(amounts[edit.action](edit))) if edit.action in amounts else edit
        for edit in edits
    ]


def _keep_largest(
    labels: np.ndarray, step: KeepLargest, value: int, grid: LabelGrid
) -> LabelEdit | None:
    return _remove(labels, step, value, lambda sizes: np.arange(len(sizes)) != sizes.argmax())


def _drop_small(
    labels: np.ndarray, step: DropSmall, value: int, grid: LabelGrid
) -> LabelEdit | None:
    smallest = smallest_px(step, grid)
    if smallest is not None:
        return _remove(labels, step, value, lambda sizes: sizes < smallest)
    if cut_out(labels, value) is None:
        return None
    return LabelEdit(step.step, (value,), "skipped", expected=NO_SCALE)


def _remove(
    labels: np.ndarray,
    step: KeepLargest | DropSmall,
    value: int,
    choose: Callable[[np.ndarray], np.ndarray],
) -> LabelEdit | None:
    """Remove the components of a label that `choose` marks, given their sizes."""
    window = cut_out(labels, value)
    if window is None:
        return None
    inside = labels[window]
    parts, sizes = components(mask_of(inside, value))
    dropped = choose(sizes)
    if not dropped.any():
        return None
    return LabelEdit(step.step, (value,), "removed", *remove_parts(inside, parts, sizes, dropped))


def _fill_holes(
    labels: np.ndarray, step: FillHoles, value: int, grid: LabelGrid
) -> LabelEdit | None:
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
    return LabelEdit(step.step, (value,), "added", len(sizes), found)


def _open_or_close(
    labels: np.ndarray, step: Opening | Closing, value: int, grid: LabelGrid
) -> LabelEdit | None:
    radius = _radius_px(step, labels.ndim, grid)
    if radius is None:
        return LabelEdit(step.step, (value,), "skipped", expected=NO_SCALE)
    opens = isinstance(step, Opening)
    margin = [(1 if opens else 2) * side + 1 for side in reach(radius)]
    window = _cut_out_along(labels, step, value, grid, margin=margin)
    if window is None:
        return None
    inside = labels[window]
    mask = mask_of(inside, value)
    changed = _change_shape(mask, step, grid, opened if opens else closed)
    affected = mask & ~changed if opens else changed & mask_of(inside, 0)
    count = int(np.count_nonzero(affected))
    if not count:
        return None
    inside[affected > 0] = 0 if opens else value
    return LabelEdit(step.step, (value,), "removed" if opens else "added", 0, count)


def _cut_out_along(
    labels: np.ndarray, step: Opening | Closing, value: int, grid: LabelGrid, *,
    margin: Sequence[int],
) -> Window | None:  # fmt: skip
    """Box of a label with a margin; all slices if they are uneven."""
    window = cut_out(labels, value, margin=tuple(margin))
    if window is None or grid.uneven is None or step.radius_mm is None:
        return window
    return slice(0, len(labels)), *window[1:]


def _change_shape(
    mask: np.ndarray,
    step: Opening | Closing,
    grid: LabelGrid,
    change: Callable[[np.ndarray, tuple[float, ...]], np.ndarray],
) -> np.ndarray:
    """Open or close a mask by a ball; uneven slices with a ball in mm on an even grid."""
    if grid.uneven is None or step.radius_mm is None or grid.spacing_mm is None:
        radius = _radius_px(step, mask.ndim, grid)
        assert radius is not None  # callers look
        return change(mask, radius)
    heights = grid.uneven.lay_grid()
    step_mm = float(heights[1] - heights[0])
    lengths = (step_mm, *grid.spacing_mm[1:])
    changed = change(
        mask[grid.uneven.find_owners(heights)],
        tuple(step.radius_mm / length for length in lengths),
    )
    places = np.rint((np.array(grid.uneven.heights_mm) - heights[0]) / step_mm).astype(int)
    back: np.ndarray = changed[np.clip(places, 0, len(heights) - 1)]
    return back


def _radius_px(
    step: Opening | Closing, spatial_dims: int, grid: LabelGrid
) -> tuple[float, ...] | None:
    """Radius of the ball along each axis in pixels; None if the scale is unknown."""
    if step.radius_px is not None:
        return (step.radius_px,) * spatial_dims
    if grid.spacing_mm is None or step.radius_mm is None:
        return None
    return tuple(step.radius_mm / length for length in grid.spacing_mm)


APPLIERS: Mapping[type, Callable[[np.ndarray, Any, int, LabelGrid], LabelEdit | None]] = {
    KeepLargest: _keep_largest,
    FillHoles: _fill_holes,
    DropSmall: _drop_small,
    Opening: _open_or_close,
    Closing: _open_or_close,
}

FRAME_APPLIERS: Mapping[
    type, Callable[[np.ndarray, Any, Sequence[int], LabelGrid], list[LabelEdit]]
] = {FitEllipse: fit_ellipse, KeepLargestInScan: lambda labels, step, values, grid: []}
"""Repairs of a frame that may add and remove at once, and those that wait for its scan."""
