"""A frame and what the network made of it, on a coarse grid; gate and confidence share it."""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from bedside.pipeline.logits import softmax

SIDE_PX = 64
"""Longest side of the grid at most."""


@dataclass(frozen=True)
class Coarse:
    """A frame on a grid of at most 64 pixels a side.

    Its planes lie in one array, so that one call sums them up.

    Attributes:
        planes: (2 K + 1 + C, h, w) float32: probabilities p of the classes, of the averaged logits;
            their doubts, p (1 - p); the largest p; the averaged tensor, if there is one.
        classes: K.
        sums: Of each plane.
        light_squared: Sum of squares of each channel of the tensor.
    """

    planes: np.ndarray
    classes: int
    sums: list[float]
    light_squared: list[float]

    @property
    def chances(self) -> np.ndarray:
        """(K, h, w) class probabilities."""
        return self.planes[: self.classes]

    @property
    def doubts(self) -> np.ndarray:
        """(K, h, w) products of probabilities and what they lack of 1."""
        return self.planes[self.classes : 2 * self.classes]

    @property
    def surest(self) -> np.ndarray:
        """(h, w) largest probability."""
        return np.asarray(self.planes[2 * self.classes])

    @property
    def image(self) -> np.ndarray | None:
        """(C, h, w) averaged tensor; None for the slice of a 3D network."""
        return self.planes[2 * self.classes + 1 :] if self.light_squared else None


def coarsen(tensor: np.ndarray | None, logits: np.ndarray) -> Coarse:
    """Average a frame and its logits over the cells of a coarse grid.

    Args:
        tensor: (C, H, W) as the network takes it; None for the slice of a 3D network.
        logits: (K, h, w) as it gives them.
    """
    classes, height, width = logits.shape
    factor = min(1.0, SIDE_PX / max(height, width))
    size = max(1, round(factor * width)), max(1, round(factor * height))
    channels = 0 if tensor is None else len(tensor)
    planes = np.empty((2 * classes + 1 + channels, size[1], size[0]), np.float32)
    chances, doubts = planes[:classes], planes[classes : 2 * classes]
    surest, image = planes[2 * classes], planes[2 * classes + 1 :]
    softmax(shrink_planes(logits, size, out=chances), largest=surest)
    np.subtract(1, chances, out=doubts)
    doubts *= chances
    if tensor is not None:
        shrink_planes(tensor, size, out=image)
    flat = planes.reshape(len(planes), -1)
    seen = flat[2 * classes + 1 :]
    sums, squares = np.add.reduce(flat, axis=1), np.vecdot(seen, seen)
    return Coarse(planes, classes, sums.tolist(), squares.tolist())


def shrink_planes(
    planes: np.ndarray, size: tuple[int, int], *, out: np.ndarray | None = None
) -> np.ndarray:
    """New planes of float32, each averaged over the cells of a grid.

    Args:
        planes: (N, H, W).
        size: (width, height) of the grid.
        out: (N, height, width) float32, contiguous, that they are written to; None for a new one.
    """
    count, height, width = planes.shape
    planes = np.ascontiguousarray(planes, np.float32)
    found = np.empty((count, *size[::-1]), np.float32) if out is None else out
    if (height, width) == size[::-1]:
        np.copyto(found, planes)
        return found
    if height % size[1] == 0:
        # No cell lies in two planes, so one call does for all.
        stacked, rows = planes.reshape(-1, width), count * size[1]
        if (height, width) == (4 * size[1], 4 * size[0]):
            # Halving twice is faster than a quarter at once.
            halved = (2 * size[0], 2 * rows)
            stacked = cv2.resize(stacked, halved, interpolation=cv2.INTER_AREA)
        target = found.reshape(-1, size[0])
        cv2.resize(stacked, (size[0], rows), target, interpolation=cv2.INTER_AREA)
        return found
    for plane, one in zip(planes, found, strict=True):
        cv2.resize(plane, size, one, interpolation=cv2.INTER_AREA)
    return found


def average_cells(planes: np.ndarray, side: int) -> np.ndarray:
    """Planes averaged over side x side cells, one after the other, (N side side,) float32."""
    _, height, width = planes.shape
    if min(height, width) < side or height % side == width % side == 0:
        return shrink_planes(planes, (side, side)).ravel()
    # Cells that share pixels take OpenCV longer than two products do.
    return np.asarray(weigh_cells(height, side) @ planes @ weigh_cells(width, side).T).ravel()


@lru_cache(maxsize=64)
def weigh_cells(size: int, side: int) -> np.ndarray:
    """Weights that average pixels over cells of even size, (side, size) float32.

    Args:
        size: How many pixels.
        side: How many cells, not more than pixels.

    Example:
        >>> (3 * weigh_cells(3, 2)).tolist()
        [[2.0, 1.0, 0.0], [0.0, 1.0, 2.0]]
    """
    edges, pixels = np.linspace(0, size, side + 1)[:, None], np.arange(size)
    begins, ends = np.maximum(edges[:-1], pixels), np.minimum(edges[1:], pixels + 1)
    weights = np.asarray(np.maximum(ends - begins, 0) * side / size, np.float32)
    weights.setflags(write=False)  # kept for all that ask
    return weights
