"""Slices sorted along their normal, checked for gaps, with one affine."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bedside.errors import GeometryError
from bedside.io.dicom.gaps import check_complete, describe_blocks, describe_unknown
from bedside.io.dicom.spacing import EVEN, Spacing, are_even, judge_spacing, lower_median
from bedside.volume import Geometry, UnevenSlices

_UNIT = 1e-3
_SIDEWAYS_PX = 0.05
# Slices closer than this part of a step are at one place.
_SAME_PLACE = 1e-2
_MAX_INTERPOLATED = 4.0


@dataclass(frozen=True)
class Plane:
    """The place of one slice, from its header.

    Attributes:
        name: Name of its file, or "frame 12", for errors.
        position: Centre of its first pixel in LPS mm, (3,).
        orientation: Directions along a row and along a column, (6,).
        spacing_mm: (row, column).
        thickness_mm: Of the slice; None if it is missing or invalid.
        between_mm: From slice to slice, likewise.
        acquisition: Number of its acquisition, if known.
    """

    name: str
    position: np.ndarray = field(repr=False)
    orientation: np.ndarray = field(repr=False)
    spacing_mm: tuple[float, float]
    thickness_mm: float | None = None
    between_mm: float | None = None
    acquisition: str = ""

    @property
    def normal(self) -> np.ndarray:
        """Unit vector perpendicular to the slice, (3,)."""
        return np.cross(self.orientation[:3], self.orientation[3:])

    @property
    def height_mm(self) -> float:
        """Position along the normal."""
        return float(self.position @ self.normal)

    @property
    def block(self) -> tuple[float | None, str]:
        """What slices of one acquisition have in common."""
        return self.thickness_mm, self.acquisition


@dataclass(frozen=True)
class Stack:
    """The slices of a scan in order, with frames for missing ones.

    Attributes:
        picks: For each frame the two slices around it, by index into the planes, and its fraction
            of the way between them; 0 on a slice.
        unknown: Frames in the place of missing slices.
        geometry: Of the frames; see `bedside.volume.ImageSequence`.
        slice_spacing_mm: Distance of slices along the normal; the mean if uneven.
        uneven: Position of each, if they are not evenly spaced.
        warnings: What was corrected, in sentences for the user.
    """

    picks: tuple[tuple[int, int, float], ...] = field(repr=False)
    unknown: tuple[int, ...]
    geometry: Geometry
    slice_spacing_mm: float
    uneven: UnevenSlices | None = None
    warnings: tuple[str, ...] = ()


def read_plane(
    position: Any, orientation: Any, spacing: Any, *, name: str, thickness: Any = None,
    between: Any = None, acquisition: Any = None,
) -> Plane:  # fmt: skip
    """Return the place of a slice, after checking its header.

    Args:
        position: ImagePositionPatient.
        orientation: ImageOrientationPatient.
        spacing: PixelSpacing, (row, column).
        name: Name of the file or frame, for errors.
        thickness: SliceThickness.
        between: SpacingBetweenSlices.
        acquisition: AcquisitionNumber.

    Raises:
        GeometryError: If something is missing or malformed, or the directions are not
            perpendicular.
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
                "Name the file alone."
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
    return Plane(
        name,
        place,
        directions,
        (float(row_mm), float(column_mm)),
        thickness_mm=_read_length(thickness),
        between_mm=_read_length(between),
        acquisition="" if acquisition is None else str(acquisition),
    )


def _read_length(value: Any) -> float | None:
    """Return a length in mm, without its sign; None if it is invalid."""
    values = value if isinstance(value, list | tuple) else [value]
    try:
        length = abs(float(values[0]))
    except (IndexError, TypeError, ValueError):
        return None
    return length if 0 < length < math.inf else None


def find_duplicates(planes: Sequence[Plane]) -> list[tuple[int, int]]:
    """Return slices that are at the place of another.

    Args:
        planes: Of one orientation.

    Returns:
        Pairs of indices, each slice paired with the first one at its place.
    """
    heights = np.array([plane.height_mm for plane in planes])
    order = np.argsort(heights, kind="stable")
    nearest = _SAME_PLACE * _find_step(planes)
    pairs, first = [], int(order[0])
    for index in order[1:]:
        if heights[index] - heights[first] <= nearest:
            pairs.append((first, int(index)))
        else:
            first = int(index)
    return pairs


def _find_step(planes: Sequence[Plane]) -> float:
    """Return the median distance of slices at different places, in mm; else infinity."""
    steps = np.diff(np.sort([plane.height_mm for plane in planes]))
    apart = steps[steps > 1e-4]
    return float(np.median(apart)) if apart.size else math.inf


def is_seam(planes: Sequence[Plane], first: int, second: int) -> bool:
    """Whether two slices at one place are the last of one block and the first of the next.

    They differ in thickness or acquisition; the slices below and above belong to one block each,
    and no third slice is at their place.

    Args:
        planes: Of one orientation.
        first: Index of one slice.
        second: Index of the other.
    """
    blocks = planes[first].block, planes[second].block
    if blocks[0] == blocks[1]:
        return False
    heights = np.array([plane.height_mm for plane in planes])
    order = np.argsort(heights, kind="stable").tolist()
    low, high = sorted((order.index(first), order.index(second)))
    if high != low + 1 or low == 0 or high == len(order) - 1:
        return False
    below, above = planes[order[low - 1]], planes[order[high + 1]]
    near = max(abs(heights[first] - heights[second]), 1e-4)
    apart = min(heights[order[low]] - below.height_mm, above.height_mm - heights[order[high]])
    return bool(apart > near) and (below.block, above.block) in (blocks, blocks[::-1])


def check_alike(planes: Sequence[Plane]) -> None:
    """Refuse slices of several orientations or pixel sizes.

    Raises:
        GeometryError: If there are several; the first difference is named.
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
    """Sort slices by place, and find missing ones.

    Args:
        planes: At least two, alike; two at one place only where blocks meet.
        shape: (height, width) of a slice.
        fill_gaps: Whether missing slices are interpolated and marked, and doubtful scans count as
            complete, instead of being refused.

    Returns:
        The slices from the lowest along the normal, and frames between them.

    Raises:
        GeometryError: If slices are or may be missing, or are shifted sideways.
    """
    normal = planes[0].normal
    places = np.array([plane.position for plane in planes])
    order = _sort(planes)
    names = [planes[index].name for index in order]
    thickness = [planes[index].thickness_mm for index in order]
    heights = _merge_heights((places @ normal)[order], _SAME_PLACE * _find_step(planes))
    spacing = judge_spacing(heights, thickness, [planes[index].between_mm for index in order])
    if not fill_gaps:
        check_complete(spacing, names, thickness)
    lean = _find_tilt(places[order], normal, planes[0].spacing_mm, names)
    picks, unknown, grid = _fill(heights, spacing, order)
    uneven, step = None, float(heights[-1] - heights[0]) / (len(planes) - 1)
    warnings = describe_unknown(unknown)
    if not spacing.is_even:
        step = lower_median(np.diff(grid[0]))
        if not are_even(np.diff(grid[0])):
            uneven = UnevenSlices(tuple((grid[0] - heights[0]).tolist()), _share(*grid))
            step = uneven.mean_mm
            warnings += describe_blocks(uneven, spacing)
    row_mm, column_mm = planes[0].spacing_mm
    affine = np.eye(4)
    affine[:3, 0] = step * (normal + lean)
    affine[:3, 1] = planes[0].orientation[3:] * row_mm
    affine[:3, 2] = planes[0].orientation[:3] * column_mm
    affine[:3, 3] = places[order[0]]
    geometry = Geometry((len(picks), *shape), affine, space="LPS")
    return Stack(tuple(picks), unknown, geometry, step, uneven, tuple(warnings))


def _sort(planes: Sequence[Plane]) -> np.ndarray:
    """Sort slices by height; of two at one place the one of the block below comes first."""
    order = np.argsort([plane.height_mm for plane in planes], kind="stable")
    nearest = _SAME_PLACE * _find_step(planes)
    for index in range(1, len(order) - 1):
        below, here, there = (planes[order[index + by]] for by in (-1, 0, 1))
        if there.height_mm - here.height_mm > nearest or here.block == below.block:
            continue
        if there.block == below.block:
            order[index], order[index + 1] = order[index + 1], order[index]
    return order


def _merge_heights(heights: np.ndarray, nearest: float) -> np.ndarray:
    """Set slices at one place to one height."""
    snapped = heights.copy()
    for index in range(1, len(snapped)):
        if snapped[index] - snapped[index - 1] <= nearest:
            snapped[index] = snapped[index - 1]
    return snapped


def _find_tilt(
    places: np.ndarray, normal: np.ndarray, spacing_mm: tuple[float, float], names: Sequence[str]
) -> np.ndarray:  # fmt: skip
    """Return the sideways shift of slices per mm along their normal, (3,); 0 without a tilt."""
    heights = places @ normal
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
    # Smaller shifts over the whole scan are rounding.
    if np.linalg.norm(lean) * rise[-1] <= _SIDEWAYS_PX * min(spacing_mm):
        return np.zeros(3)
    return lean


def _fill(
    heights: np.ndarray, spacing: Spacing, order: np.ndarray
) -> tuple[list[tuple[int, int, float]], tuple[int, ...], tuple[np.ndarray, np.ndarray | None]]:
    """Add frames for missing slices, evenly between their neighbours.

    Returns:
        The picks of each frame; which frames are unknown; their heights and thickness in mm, None
        if that is unknown.
    """
    made_up = int(spacing.missing.sum())
    if made_up + len(heights) > _MAX_INTERPOLATED * len(heights):
        raise GeometryError(
            f"{len(heights)} slices over {heights[-1] - heights[0]:.4g} mm, most of them "
            f"{lower_median(spacing.steps):.4g} mm apart, have more gaps than slices. Find the "
            "missing files."
        )
    thickness = spacing.thickness_mm
    picks, unknown, grid, thick = [], [], [], []
    for index, height in enumerate(heights):
        picks.append((int(order[index]), int(order[index]), 0.0))
        grid.append(float(height))
        thick.append(0.0 if thickness is None else float(thickness[index]))
        count = int(spacing.missing[index]) if index < len(spacing.missing) else 0
        for number in range(1, count + 1):
            share = number / (count + 1)
            unknown.append(len(picks))
            picks.append((int(order[index]), int(order[index + 1]), share))
            grid.append(float(height + share * spacing.steps[index]))
            if thickness is not None:
                left = spacing.steps[index] - (thickness[index] + thickness[index + 1]) / 2
                thick.append(max(float(left) / count, 0.0))
    known = None if thickness is None else np.array(thick)
    return picks, tuple(unknown), (np.array(grid), known)


def _share(heights: np.ndarray, thickness: np.ndarray | None) -> tuple[float, ...]:
    """Divide the space between slices among them, by thickness if known, else in halves.

    The outermost reach as far beyond the scan as into it, or half their thickness if the next one
    is of another block.

    Returns:
        Edges in mm from the first slice, (slices + 1,).
    """
    thick = np.ones(len(heights)) if thickness is None else np.maximum(thickness, 1e-6)
    steps = np.diff(heights)
    lower = steps * thick[:-1] / (thick[:-1] + thick[1:])
    inner = heights[:-1] + lower
    first = lower[0] if thick[0] == thick[1] else thick[0] / 2
    last = heights[-1] - inner[-1] if thick[-1] == thick[-2] else thick[-1] / 2
    edges = np.concatenate([[heights[0] - first], inner, [heights[-1] + last]])
    return tuple((edges - heights[0]).tolist())


def _show(value: Any) -> str:
    """Return a header's value for messages."""
    return "missing" if value is None or not len(value) else str(value)
