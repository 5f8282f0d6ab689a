"""Missing slices told from unevenly spaced ones.

Thickness decides: slices that touch or overlap are complete, at any distance of their centres.
Where thickness is missing or not plausible, nothing is assumed.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

EVEN = 1e-3
"""Part of a step by which two steps may differ and still be called even."""

# Part of the thinner slice that may lie between two slices that are said to touch: a header
# rounds thickness, and a shifted slice is no missing one.
_SLACK = 0.25
# Usual gap between MR slices, relative to their thickness.
_WIDEST_RATIO = 1.5
# Tolerance of SpacingBetweenSlices.
_AGREES = 0.1
# A step this close to a multiple of its neighbours has missing slices.
_WHOLE = 0.1
_WIDE_STEP = 1.5
# Least room for a missing slice, relative to the thinnest slice nearby.
_ROOM = 0.75
# So many equal steps in a row are a block, not chance.
_A_BLOCK = 3
_ALIKE = 2e-2
_ROUNDING_MM = 1e-6


@dataclass(frozen=True)
class Spacing:
    """The steps between sorted slices.

    Attributes:
        steps: Distance from each slice to the next in mm, (slices - 1,).
        missing: Number of slices missing in each step, likewise.
        doubtful: Whether slices may be missing in a step, likewise.
        thickness_mm: Length that each slice covers, gaps between slices included, (slices,);
            None if thickness is unknown or not to be trusted.
    """

    steps: np.ndarray
    missing: np.ndarray
    doubtful: np.ndarray
    thickness_mm: np.ndarray | None

    @property
    def is_even(self) -> bool:
        """Whether all steps are equal to a thousandth."""
        return are_even(self.steps)


def judge_spacing(
    heights: np.ndarray,
    thickness: Sequence[float | None],
    between: Sequence[float | None],
) -> Spacing:
    """Find where slices are missing.

    A step is complete if its slices touch or overlap, by thickness or SpacingBetweenSlices. But a
    single step that is a multiple of its neighbours, between slices of one thickness, has missing
    slices: those of a scan with overlap.

    Args:
        heights: Along the normal in mm, (slices,), at least two, ascending.
        thickness: SliceThickness of each, in mm; None if it is missing or invalid.
        between: SpacingBetweenSlices, likewise.
    """
    steps = np.diff(heights)
    if are_even(steps):
        nothing = np.zeros(len(steps), int)
        return Spacing(steps, nothing, nothing > 0, None)
    usual = _find_usual_step(steps, thickness)
    widths, scale, trusted = _read_widths(steps, thickness)
    sound, agrees = _by_spacing(steps, between)
    alone = _find_run_lengths(steps) < _A_BLOCK
    sound |= _is_even_but_for_small_steps(steps, alone)
    if widths is not None:
        thinner = np.minimum(widths[:-1], widths[1:])
        touching = scale * (widths[:-1] + widths[1:]) / 2
        sound |= steps <= touching + scale * _SLACK * thinner + _ROUNDING_MM
        sound |= _is_pattern(steps, widths)
    times = steps / usual
    whole = (np.rint(times) >= 2) & (np.abs(times - np.rint(times)) <= _WHOLE)
    missing = np.where(alone & whole & ~agrees, np.rint(times) - 1, 0)
    left = ~sound & (missing == 0)
    if widths is not None and trusted:
        # Room for a slice, and not only for one that was shifted.
        uncovered = steps - touching
        around = np.pad(thinner, 1, mode="edge")
        thinnest = np.minimum.reduce([around[:-2], thinner, around[2:]])
        lacking = left & (uncovered > _ROOM * scale * thinnest)
        missing = np.where(lacking, np.maximum(1, np.rint(uncovered / touching)), missing)
    else:
        lacking = left & alone & (times > _WIDE_STEP)
        missing = np.where(lacking, np.maximum(1, np.rint(times) - 1), missing)
    return Spacing(
        steps=steps,
        missing=missing.astype(int),
        doubtful=left & ~lacking,
        thickness_mm=scale * widths if widths is not None and trusted else None,
    )


def are_even(steps: np.ndarray) -> bool:
    """Whether steps are equal to a thousandth."""
    step = lower_median(steps)
    return bool((np.abs(steps - step) <= EVEN * step + _ROUNDING_MM).all())


def lower_median(values: np.ndarray) -> float:
    """Return the median, or the lower of two middle values."""
    return float(np.sort(values)[(len(values) - 1) // 2])


def _read_widths(
    steps: np.ndarray, thickness: Sequence[float | None]
) -> tuple[np.ndarray | None, float, bool]:
    """Return what thickness shows about steps.

    Returns:
        Thickness of each slice, None if one has none; the usual excess of a step over two half
        slices; and whether a larger step proves a missing slice.
    """
    if any(each is None for each in thickness):
        return None, 1.0, False
    widths = np.array(thickness, np.float64)
    ratios = steps / ((widths[:-1] + widths[1:]) / 2)
    if (ratios * (1 + _AGREES) < 1).all():
        # All slices overlap: by the same share, or thickness is not valid.
        return widths, float(np.quantile(ratios, 0.1, method="lower")), False
    scale = float(np.quantile(ratios, 0.25, method="lower"))
    if scale > _WIDEST_RATIO:
        return None, 1.0, False
    return widths, max(1.0, scale), True


def _by_spacing(
    steps: np.ndarray, between: Sequence[float | None]
) -> tuple[np.ndarray, np.ndarray]:
    """Whether each step is at most SpacingBetweenSlices, and whether it is equal to it."""
    nothing = np.zeros(len(steps), bool)
    if any(each is None for each in between):
        return nothing.copy(), nothing
    own = np.array(between, np.float64)
    said = (own[:-1] + own[1:]) / 2
    if abs(lower_median(steps / said) - 1) > _AGREES:
        return nothing.copy(), nothing
    return steps <= said * (1 + _AGREES), np.abs(steps / said - 1) <= _AGREES


def _is_even_but_for_small_steps(steps: np.ndarray, alone: np.ndarray) -> np.ndarray:
    """Whether all steps are equal but for single smaller ones: then nothing is missing."""
    step = lower_median(steps)
    small = alone & (steps < step)
    return np.full(len(steps), are_even(steps[~small]))


def _is_pattern(steps: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Whether each step is one of several alike, at most the thickness of its slices.

    Slices of alternating thickness that are placed by their edges lie like this.
    """
    lower, upper = widths[:-1], widths[1:]
    found = np.zeros(len(steps), bool)
    within = steps <= np.maximum(lower, upper) + _ROUNDING_MM
    for index in np.flatnonzero(within & (np.abs(lower - upper) > _ALIKE * lower)):
        alike = (lower == lower[index]) & (upper == upper[index])
        alike &= np.abs(steps - steps[index]) <= _ALIKE * steps[index]
        found[index] = np.count_nonzero(alike) >= _A_BLOCK
    return found


def _find_usual_step(steps: np.ndarray, thickness: Sequence[float | None]) -> np.ndarray:
    """Return the usual step among the neighbouring slices of one thickness."""
    kinds = [-1.0 if each is None else each for each in thickness]
    same = [abs(a - b) <= _ALIKE * abs(a) for a, b in itertools.pairwise(kinds)]
    usual = steps.astype(np.float64)
    first = 0
    for index in range(1, len(steps) + 1):
        if index < len(steps) and same[index] == same[first]:
            continue
        if same[first]:
            usual[first:index] = lower_median(steps[first:index])
        first = index
    return np.maximum(usual, _ROUNDING_MM)


def _find_run_lengths(steps: np.ndarray) -> np.ndarray:
    """Return for each step the length of the run of equal steps around it."""
    lengths = np.ones(len(steps), int)
    first = 0
    for index in range(1, len(steps) + 1):
        if index < len(steps) and abs(steps[index] - steps[first]) <= _ALIKE * steps[first]:
            continue
        lengths[first:index] = index - first
        first = index
    return lengths
