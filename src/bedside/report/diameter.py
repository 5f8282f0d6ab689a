"""Largest diameter of structures in each frame, and their bounding box."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from bedside.volume import UnevenSlices

# Middles of edges from that of a pixel, (left or right, edge, row or column).
_EDGES = np.array(
    [
        [[-0.5, 0.0], [0.5, 0.0], [0.0, -0.5]],
        [[-0.5, 0.0], [0.5, 0.0], [0.0, 0.5]],
    ]
)


@dataclass(frozen=True)
class Extent:
    """Diameters and bounding box of one structure.

    Attributes:
        diameter_mm: Its largest diameter in the plane of each frame; 0 where it is not.
        box_mm: Edges of the smallest box around it that lies along the axes of the array,
            (slice, row, column); 0 where it is in no frame. None without a slice distance.
    """

    diameter_mm: tuple[float, ...]
    box_mm: tuple[float, float, float] | None


def measure_extents(
    array: np.ndarray,
    values: Sequence[int],
    *,
    spacing_mm: tuple[float, float],
    slice_mm: float | None = None,
    counts: np.ndarray | None = None,
    uneven: UnevenSlices | None = None,
) -> dict[int, Extent]:
    """Measure structures frame by frame.

    Args:
        array: (frames, height, width) uint8.
        values: The labels to measure.
        spacing_mm: (row, column) distance.
        slice_mm: Distance from frame to frame, if they are the slices of a scan.
        counts: (frames, 256) pixels of each label, if they have been counted.
        uneven: Where the slices lie, if they are not evenly spaced.

    Returns:
        By label.

    Example:
        >>> square = np.zeros((1, 5, 5), np.uint8)
        >>> square[0, 1:4, 1:4] = 1
        >>> measure_extents(square, [1], spacing_mm=(1.0, 2.0), slice_mm=3.0)[1].box_mm
        (3.0, 3.0, 6.0)
    """
    diameters = {value: [0.0] * len(array) for value in values}
    # First and one past the last index along (slice, row, column).
    first = {value: np.array(array.shape) for value in values}
    last = {value: np.zeros(3, int) for value in values}
    for index, frame in enumerate(array):
        own = np.bincount(frame.ravel(), minlength=256) if counts is None else counts[index]
        for value in set(values).intersection(np.flatnonzero(own).tolist()):
            mask = cv2.inRange(frame, value, value)
            left, top, across, down = cv2.boundingRect(mask)
            first[value] = np.minimum(first[value], (index, top, left))
            last[value] = np.maximum(last[value], (index + 1, top + down, left + across))
            part = mask[top : top + down, left : left + across] > 0
            diameters[value][index] = round(measure_diameter_mm(part, spacing_mm), 2)
    extents = {}
    for value in values:
        box_mm = None
        if slice_mm is not None:
            size = np.maximum(last[value] - first[value], 0) * (slice_mm, *spacing_mm)
            if uneven is not None and size.any():
                size[0] = uneven.edges_mm[last[value][0]] - uneven.edges_mm[first[value][0]]
            box_mm = tuple(round(float(length), 2) for length in size)
        extents[value] = Extent(tuple(diameters[value]), box_mm)  # type: ignore[arg-type]
    return extents


def measure_diameter_mm(mask: np.ndarray, spacing_mm: tuple[float, float]) -> float:
    """Measure the largest diameter of a mask: between its two farthest points.

    Points are the middles of the edges of its pixels, where a contour drawn at half height
    would run. A row of n pixels is so n pixels long, and a disc as long as it is wide.

    Args:
        mask: (height, width), of at least one pixel.
        spacing_mm: (row, column) distance.

    Example:
        >>> measure_diameter_mm(np.ones((1, 4), bool), (0.5, 2.0))
        8.0
    """
    rows = np.flatnonzero(mask.any(axis=1))
    lines = mask[rows]
    left = lines.argmax(axis=1)
    right = mask.shape[1] - 1 - lines[:, ::-1].argmax(axis=1)
    # Of the outermost pixels of each row the edge above, the one below, and the one outwards.
    points = np.empty((2, 3, len(rows), 2))
    points[..., 0] = rows + _EDGES[:, :, None, 0]
    points[..., 1] = np.stack([left, right])[:, None] + _EDGES[:, :, None, 1]
    scaled = (points.reshape(-1, 2) * spacing_mm).astype(np.float32)
    down, across = cv2.convexHull(scaled)[:, 0].astype(np.float64).T
    # Each axis by itself: a sum over an axis of two takes eight times as long.
    squared = (down[:, None] - down) ** 2 + (across[:, None] - across) ** 2
    return float(np.sqrt(squared.max()))
