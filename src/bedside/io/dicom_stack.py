"""Where the slices of a scan lie: sorted along their normal, checked to be even, one affine."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bedside.errors import GeometryError
from bedside.volume import Geometry

EVEN = 1e-3
"""Part of a step by which two steps may differ and still be called even."""

_UNIT = 1e-3
_SIDEWAYS_PX = 0.05
# Two slices nearer than this part of a step lie at one place.
_SAME_PLACE = 1e-2
_WIDEST_STEP = 1.5
_MAX_INTERPOLATED = 4.0


@dataclass(frozen=True)
class Plane:
    """Where one slice lies, as its header says.

    Attributes:
        name: Of its file, or "frame 12", for errors.
        position: Its first pixel's middle in LPS mm, (3,).
        orientation: Directions along a row and along a column, (6,).
        spacing_mm: (row, column) distance.
    """

    name: str
    position: np.ndarray = field(repr=False)
    orientation: np.ndarray = field(repr=False)
    spacing_mm: tuple[float, float]

    @property
    def normal(self) -> np.ndarray:
        """Unit vector across the slice, (3,)."""
        return np.cross(self.orientation[:3], self.orientation[3:])

    @property
    def height_mm(self) -> float:
        """Place along the normal."""
        return float(self.position @ self.normal)


@dataclass(frozen=True)
class Stack:
    """An even grid through the slices of a scan.

    Attributes:
        picks: For each frame of the grid the two slices it lies between, by index into the
            planes, and its share of the way from the first to the second; 0 on a slice.
        unknown: Frames that lie where slices are missing.
        geometry: Of the grid.
        slice_spacing_mm: Distance from slice to slice along the normal.
        warnings: What was mended, in sentences for a person.
    """

    picks: tuple[tuple[int, int, float], ...] = field(repr=False)
    unknown: tuple[int, ...]
    geometry: Geometry
    slice_spacing_mm: float
    warnings: tuple[str, ...] = ()


def read_plane(position: Any, orientation: Any, spacing: Any, *, name: str) -> Plane:
    """Check and gather what a header says of a slice's place.

    Args:
        position: ImagePositionPatient.
        orientation: ImageOrientationPatient.
        spacing: PixelSpacing, (row, column).
        name: Of the file or frame, for errors.

    Raises:
        GeometryError: If something is missing, is no number, or is no pair of directions at
            a right angle.
    """
    numbers = {}
    wanted = (
        ("ImagePositionPatient", position, 3),
        ("ImageOrientationPatient", orientation, 6),
        ("PixelSpacing", spacing, 2),
    )
    for keyword, value, count in wanted:
        try:
            array = np.array([float(part) for part in value], np.float64)
        except (TypeError, ValueError):
            array = np.full(count, np.nan)
        if array.shape != (count,) or not np.isfinite(array).all():
            raise GeometryError(
                f"{name}: {keyword} is {_show(value)}; a slice of a scan needs {count} numbers. "
                "Repair the header, or name the file alone."
            )
        numbers[keyword] = array
    rows, columns = np.split(numbers["ImageOrientationPatient"], 2)
    lengths = np.array([np.linalg.norm(rows), np.linalg.norm(columns)])
    if (np.abs(lengths - 1) > 10 * _UNIT).any() or abs(rows @ columns) > 10 * _UNIT:
        raise GeometryError(
            f"{name}: ImageOrientationPatient is {_show(orientation)}; expected two directions "
            "of length 1 at a right angle. Repair the header."
        )
    if (numbers["PixelSpacing"] <= 0).any():
        raise GeometryError(
            f"{name}: PixelSpacing is {_show(spacing)}; expected mm above 0. Repair the header."
        )
    row_mm, column_mm = numbers["PixelSpacing"]
    directions = np.concatenate([rows / lengths[0], columns / lengths[1]])
    place = numbers["ImagePositionPatient"]
    return Plane(name, place, directions, (float(row_mm), float(column_mm)))


def find_duplicates(planes: Sequence[Plane]) -> list[tuple[int, int]]:
    """Find slices that lie where another one does.

    Args:
        planes: Of one orientation.

    Returns:
        Pairs of indices, each slice paired with the first one at its place.
    """
    heights = np.array([plane.height_mm for plane in planes])
    order = np.argsort(heights, kind="stable")
    steps = np.diff(heights[order])
    apart = steps[steps > 1e-4]
    nearest = _SAME_PLACE * float(np.median(apart)) if apart.size else math.inf
    pairs, first = [], int(order[0])
    for index in order[1:]:
        if heights[index] - heights[first] <= nearest:
            pairs.append((first, int(index)))
        else:
            first = int(index)
    return pairs


def check_alike(planes: Sequence[Plane]) -> None:
    """Refuse slices of several orientations or pixel sizes.

    Raises:
        GeometryError: If there are; the first that differs is named.
    """
    first = planes[0]
    for plane in planes[1:]:
        if np.abs(plane.orientation - first.orientation).max() > _UNIT:
            raise GeometryError(
                f"{plane.name} does not lie parallel to {first.name}. A scan needs slices of one "
                "orientation; name the files of one stack."
            )
        if not np.allclose(plane.spacing_mm, first.spacing_mm, rtol=EVEN, atol=0):
            raise GeometryError(
                f"{plane.name} has a pixel spacing of {plane.spacing_mm} mm, {first.name} of "
                f"{first.spacing_mm} mm. A scan needs one; name the files of one stack."
            )


def stack_planes(planes: Sequence[Plane], shape: tuple[int, int], *, fill_gaps: bool) -> Stack:
    """Sort slices by their place and lay an even grid through them.

    Args:
        planes: At least two, alike, no two at one place.
        shape: (height, width) of a slice.
        fill_gaps: Whether missing and uneven slices are interpolated instead of refused.

    Returns:
        The grid; its first frame is the slice that lies lowest along the normal.

    Raises:
        GeometryError: If slices are missing, uneven, or shifted sideways; it is said where.
    """
    normal = planes[0].normal
    places = np.array([plane.position for plane in planes])
    order = np.argsort(places @ normal, kind="stable")
    heights = (places @ normal)[order]
    steps = np.diff(heights)
    # The lower of two middle ones: of a single gap and a single step the step counts.
    step = float(np.sort(steps)[(len(steps) - 1) // 2])
    names = [planes[index].name for index in order]
    uneven = np.abs(steps - step) > EVEN * step + 1e-6
    if uneven.any() and not fill_gaps:
        raise _say_uneven(steps, step, int(np.argmax(uneven)), names)
    lean = _find_lean(places[order], heights, normal, planes[0].spacing_mm, names)
    warnings: list[str] = []
    unknown: tuple[int, ...] = ()
    if uneven.any():
        picks, unknown, warnings = _fill(heights, step, order)
    else:
        step = float(heights[-1] - heights[0]) / (len(planes) - 1)
        picks = [(int(index), int(index), 0.0) for index in order]
    row_mm, column_mm = planes[0].spacing_mm
    affine = np.eye(4)
    affine[:3, 0] = step * (normal + lean)
    affine[:3, 1] = planes[0].orientation[3:] * row_mm
    affine[:3, 2] = planes[0].orientation[:3] * column_mm
    affine[:3, 3] = places[order[0]]
    geometry = Geometry((len(picks), *shape), affine)
    return Stack(tuple(picks), unknown, geometry, step, tuple(warnings))


def _find_lean(
    places: np.ndarray, heights: np.ndarray, normal: np.ndarray, spacing_mm: tuple[float, float],
    names: Sequence[str],
) -> np.ndarray:  # fmt: skip
    """Find how far slices move sideways for each mm along their normal, (3,); 0 without a tilt.

    Raises:
        GeometryError: If they do not move along a straight line.
    """
    sideways = places - heights[:, None] * normal
    rise = heights - heights[0]
    lean: np.ndarray = (sideways[-1] - sideways[0]) / rise[-1]
    off_mm = np.linalg.norm(sideways - sideways[0] - rise[:, None] * lean, axis=1)
    worst = int(np.argmax(off_mm))
    if off_mm[worst] > _SIDEWAYS_PX * min(spacing_mm) + 1e-4:
        raise GeometryError(
            f"{names[worst]} lies {off_mm[worst]:.2f} mm beside the line of the other slices. "
            "A scan needs slices along one line; name the files of one stack."
        )
    # What moves less than that over the whole scan is rounding of the header.
    if np.linalg.norm(lean) * rise[-1] <= _SIDEWAYS_PX * min(spacing_mm):
        return np.zeros(3)
    return lean


def _say_uneven(steps: np.ndarray, step: float, where: int, names: Sequence[str]) -> GeometryError:
    """Name the first place where a scan is not even."""
    wide = steps > _WIDEST_STEP * step
    if wide.any():
        where = int(np.argmax(wide))
        missing = max(1, round(steps[where] / step) - 1)
        what = f"{missing} slice{'s are' if missing > 1 else ' is'} missing between them"
    else:
        what = "a scan needs even spacing"
    return GeometryError(
        f"slices {where + 1} and {where + 2} ({names[where]}, {names[where + 1]}) are "
        f"{steps[where]:.4g} mm apart, the others {step:.4g} mm: {what}. Find the missing files, "
        "or pass --gaps interpolate."
    )


def _fill(
    heights: np.ndarray, step: float, order: np.ndarray
) -> tuple[list[tuple[int, int, float]], tuple[int, ...], list[str]]:
    """Lay an even grid through uneven slices.

    Raises:
        GeometryError: If most of it would be made up.
    """
    count = round((heights[-1] - heights[0]) / step) + 1
    if count > _MAX_INTERPOLATED * len(heights):
        raise GeometryError(
            f"{len(heights)} slices over {heights[-1] - heights[0]:.4g} mm, most of them "
            f"{step:.4g} mm apart, leave more unknown than known. Find the missing files."
        )
    grid = heights[0] + step * np.arange(count)
    last = len(heights) - 1
    picks, unknown, moved = [], [], 0
    for frame, height in enumerate(grid):
        upper = int(np.clip(np.searchsorted(heights, height), 1, last))
        lower = upper - 1
        gap = heights[upper] - heights[lower]
        share = float(np.clip((height - heights[lower]) / gap, 0, 1))
        near = EVEN * step / gap
        if share <= near or share >= 1 - near:
            index = int(order[lower if share <= near else upper])
            picks.append((index, index, 0.0))
            continue
        picks.append((int(order[lower]), int(order[upper]), share))
        if gap > _WIDEST_STEP * step:
            unknown.append(frame)
        else:
            moved += 1
    warnings = []
    if unknown:
        numbers = ", ".join(str(frame + 1) for frame in unknown[:8])
        more = f" and {len(unknown) - 8} more" if unknown[8:] else ""
        warnings.append(
            f"{len(unknown)} slices are missing (numbers {numbers}{more}): they are unknown, and "
            "hold no labels"
        )
    if moved:
        warnings.append(
            f"the slices are not evenly spaced: {moved} were interpolated onto an even grid of "
            f"{step:.4g} mm"
        )
    return picks, tuple(unknown), warnings


def _show(value: Any) -> str:
    """Show a header's value, or say that there is none."""
    return "missing" if value is None or not len(value) else str(value)
