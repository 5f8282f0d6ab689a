"""Closed contours of masks, as the same number of vertices each, and masks of contours.

Positions are in pixels of the network's input, (column, row), where pixel 0 reaches from 0 to 1.
"""

from collections.abc import Sequence

import cv2
import numpy as np

VERTICES = 64
RINGS = ((1,), (1, 2), (3,))
"""Labels inside each contour of `camus-4ch`: endocardium, epicardium, left atrium."""

_SUPERSAMPLED = 4
_FIXED_BITS = 6
_FEWEST_PX = 16


def trace_mask(mask: np.ndarray, vertices: int = VERTICES) -> np.ndarray | None:
    """Contour of the largest component of a mask, holes left out.

    Args:
        mask: (H, W) bool.
        vertices: How many.

    Returns:
        (vertices, 2) float32, evenly spaced, from the topmost on, clockwise on the screen; None
        where the mask has no component of some size.
    """
    found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not found:
        return None
    largest = max(found, key=len)[:, 0].astype(np.float64)
    if len(largest) < _FEWEST_PX:
        return None
    # OpenCV runs through the centres of pixels: half a pixel inside of the outline.
    outline = even_out(largest + 0.5, len(largest))
    return even_out(outline + 0.5 * find_normals(outline), vertices).astype(np.float32)


def even_out(ring: np.ndarray, vertices: int) -> np.ndarray:
    """Spread vertices evenly along a closed contour, clockwise from the topmost.

    Args:
        ring: (N, 2), in any direction.
        vertices: How many to make.
    """
    columns, rows = ring.T
    area = np.sum(columns * np.roll(rows, -1) - rows * np.roll(columns, -1))
    ring = ring if area > 0 else ring[::-1]
    ring = np.roll(ring, -int(np.argmin(ring[:, 1])), axis=0)
    closed = np.concatenate([ring, ring[:1]])
    lengths = np.hypot(*np.diff(closed, axis=0).T)
    along = np.concatenate([[0.0], np.cumsum(lengths)])
    at = np.linspace(0, along[-1], vertices, endpoint=False)
    return np.stack([np.interp(at, along, axis) for axis in closed.T], axis=1)


def find_normals(ring: np.ndarray) -> np.ndarray:
    """Outward unit normals of a clockwise contour, (N, 2)."""
    tangent = np.roll(ring, -1, axis=0) - np.roll(ring, 1, axis=0)
    normal = np.stack([tangent[:, 1], -tangent[:, 0]], axis=1)
    return np.asarray(normal / np.maximum(np.hypot(*normal.T), 1e-6)[:, None])


def cover_pixels(ring: np.ndarray, shape: tuple[int, int], *, stride: int = 1) -> np.ndarray:
    """Part of each pixel that is inside of a contour, (H, W) float32.

    Args:
        ring: (N, 2) in pixels of the finest grid.
        shape: Of the result, in pixels of `stride`.
        stride: Pixels of the finest grid for one of the result.
    """
    fine = np.zeros([_SUPERSAMPLED * side for side in shape], np.uint8)
    points = (ring * (_SUPERSAMPLED / stride) - 0.5) * 2**_FIXED_BITS
    cv2.fillPoly(fine, [np.round(points).astype(np.int32)], 255, shift=_FIXED_BITS)
    covered = cv2.resize(fine, shape[::-1], interpolation=cv2.INTER_AREA)
    return np.asarray(covered, np.float32) / 255


def trace_logits(logits: np.ndarray, stride: int = 2) -> list[np.ndarray | None]:
    """Contours of the classes that a network gives.

    Args:
        logits: (K, h, w) float32.
        stride: Pixels of the network's input for one of the logits.
    """
    size = tuple(stride * side for side in logits.shape[:0:-1])
    planes = [cv2.resize(plane, size, interpolation=cv2.INTER_LINEAR) for plane in logits]
    return trace_labels(np.argmax(planes, axis=0))


def trace_labels(labels: np.ndarray) -> list[np.ndarray | None]:
    """Contour of each of `RINGS` in a label map, (H, W)."""
    return [trace_mask(np.isin(labels, inside)) for inside in RINGS]


def draw_scores(
    rings: Sequence[np.ndarray | None], shape: tuple[int, int], *, stride: int = 2
) -> np.ndarray:
    """Part of each pixel that each class has by the contours, (4, h, w) float32, of sum 1.

    The endocardium lies above the epicardium, and the atrium beneath both.
    """
    endo, epi, atrium = (
        np.zeros(shape, np.float32) if ring is None else cover_pixels(ring, shape, stride=stride)
        for ring in rings
    )
    epi = np.maximum(epi, endo)
    atrium = np.minimum(atrium, 1 - epi)
    return np.stack([1 - epi - atrium, endo, epi - endo, atrium])
