"""Slices of a scan that are not evenly spaced."""

import functools
import math
from dataclasses import dataclass

import numpy as np

from bedside.errors import GeometryError

# Relative difference of equal steps.
_ALIKE = 2e-3
# Slices closer than this are at one place.
_SAME_PLACE_MM = 1e-4
# Most frames of an even grid per slice.
_MOST_FINE = 16


@dataclass(frozen=True)
class SliceBlock:
    """Neighbouring slices of equal spacing.

    Attributes:
        first: Number of the first slice, counted from 1 as DICOM does.
        last: Number of the last one.
        spacing_mm: Distance from slice to slice along the normal.
    """

    first: int
    last: int
    spacing_mm: float


@dataclass(frozen=True)
class UnevenSlices:
    """Positions of unevenly spaced slices along their normal, in mm from the first.

    Each slice covers a part of the patient from one edge to the next. Overlapping slices share
    their overlap, so that nothing counts twice.

    Attributes:
        heights_mm: Of each slice, ascending; equal for two at one place.
        edges_mm: Edges between the parts that slices cover: one more than there are slices.
    """

    heights_mm: tuple[float, ...]
    edges_mm: tuple[float, ...]

    def __post_init__(self) -> None:
        """Refuse heights and edges that are not valid.

        Raises:
            GeometryError: If they are not finite, too few, or not in order.
        """
        heights, edges = np.array(self.heights_mm), np.array(self.edges_mm)
        sound = edges.shape == (len(heights) + 1,) and heights.shape > (1,)
        if sound:
            inside = (edges[:-1] <= heights) & (heights <= edges[1:])
            finite = np.isfinite([*heights, *edges]).all() and heights[-1] > heights[0]
            sound = bool(inside.all() and finite and (np.diff(heights) >= 0).all())
        if not sound:
            raise GeometryError("the heights of uneven slices are not finite and in order.")

    def __len__(self) -> int:
        """Count the slices."""
        return len(self.heights_mm)

    @functools.cached_property
    def covered_mm(self) -> np.ndarray:
        """Length along the normal that each slice covers, (slices,)."""
        return np.diff(self.edges_mm)

    @property
    def mean_mm(self) -> float:
        """Mean length that a slice covers."""
        return (self.edges_mm[-1] - self.edges_mm[0]) / len(self)

    @property
    def shares(self) -> np.ndarray:
        """Length that each slice covers, relative to the mean, (slices,)."""
        return self.covered_mm / self.mean_mm

    @property
    def places(self) -> np.ndarray:
        """Position of each slice, in units of the mean from the first, (slices,)."""
        return np.array(self.heights_mm) / self.mean_mm

    def lay_grid(self, *, fineness: int = 1) -> np.ndarray:
        """Return heights in mm of an even grid over all slices, about as fine as they are.

        Args:
            fineness: Least number of grid frames in the thinnest slices.
        """
        thin = float(np.quantile(self.covered_mm, 0.1, method="lower"))
        length = self.edges_mm[-1] - self.edges_mm[0]
        thin = max(thin, float(self.covered_mm.max()) / _MOST_FINE)
        count = max(2, math.ceil(fineness * length / thin - 1e-6))
        heights: np.ndarray = self.edges_mm[0] + (np.arange(count) + 0.5) * (length / count)
        return heights

    def find_owners(self, heights_mm: np.ndarray) -> np.ndarray:
        """Return the index of the slice that covers each height, the outermost beyond the ends.

        Args:
            heights_mm: Along the normal of the slices.
        """
        owners: np.ndarray = np.searchsorted(self.edges_mm[1:-1], heights_mm, side="right")
        return owners

    def blend(self, height_mm: float) -> list[tuple[int, float]]:
        """Return the slices around a height with their weights, for linear interpolation.

        Beyond the ends it is the outermost slice. Slices at one place share its weight.

        Args:
            height_mm: Along the normal of the slices.

        Example:
            >>> slices = UnevenSlices((0.0, 4.0, 4.0, 8.0), (-2.0, 2.0, 4.0, 6.0, 10.0))
            >>> slices.blend(3.0)
            [(0, 0.25), (1, 0.375), (2, 0.375)]
        """
        heights = np.array(self.heights_mm)
        above = int(np.searchsorted(heights, height_mm))
        ends = [heights[max(above - 1, 0)], heights[min(above, len(heights) - 1)]]
        span = ends[1] - ends[0]
        share = (height_mm - ends[0]) / span if span > _SAME_PLACE_MM else 0.0
        weights: dict[int, float] = {}
        for end, weight in zip(ends, (1 - share, share), strict=True):
            here = np.flatnonzero(np.abs(heights - end) <= _SAME_PLACE_MM)
            for index in here if weight > 0 else ():
                weights[int(index)] = weights.get(int(index), 0.0) + float(weight) / len(here)
        return sorted(weights.items())

    def find_neighbour(self, index: int, by: int) -> int:
        """Return the slice a number of steps above or below; slices at one place count once.

        Args:
            index: Index of the slice.
            by: Steps up, or down if negative; the outermost slice holds beyond the ends.
        """
        heights = np.array(self.heights_mm)
        places = np.cumsum(np.append(0, np.diff(heights) > _SAME_PLACE_MM))
        wanted = int(np.clip(places[index] + by, 0, places[-1]))
        if wanted == places[index]:
            return index
        found = np.flatnonzero(places == wanted)
        # Of two at one place, the one on this side is of the same block.
        return int(found[0] if by > 0 else found[-1])

    def list_blocks(self) -> tuple[SliceBlock, ...]:
        """Return the runs of equal spacing, in order.

        Example:
            >>> slices = UnevenSlices((0.0, 2.0, 4.0, 9.0), (-1.0, 1.0, 3.0, 6.5, 11.5))
            >>> [(block.first, block.last, block.spacing_mm) for block in slices.list_blocks()]
            [(1, 3, 2.0), (3, 4, 5.0)]
        """
        steps = np.diff(self.heights_mm)
        blocks, first = [], 0
        for index in range(1, len(steps) + 1):
            here = steps[first]
            if index < len(steps) and abs(steps[index] - here) <= _ALIKE * here + 1e-6:
                continue
            spacing = round(float(steps[first:index].mean()), 4)
            blocks.append(SliceBlock(first + 1, index + 1, spacing))
            first = index
        return tuple(blocks)
