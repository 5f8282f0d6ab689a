"""A frame and what the network made of it, on a coarse grid; gate and confidence share it."""

from dataclasses import dataclass

import cv2
import numpy as np

from bedside.pipeline.logits import softmax

SIDE_PX = 64
"""Longest side of the grid at most."""


@dataclass(frozen=True)
class Coarse:
    """A frame on a grid of at most 64 pixels a side.

    Attributes:
        chances: (K, h, w) float32, class probabilities of the averaged logits.
        surest: (h, w) float32, the largest of them.
        image: (C, h, w) float32, the averaged tensor; None for the slice of a 3D network.
    """

    chances: np.ndarray
    surest: np.ndarray
    image: np.ndarray | None

    def mirror(self) -> "Coarse":
        """The same, left and right exchanged."""
        return Coarse(
            np.ascontiguousarray(self.chances[..., ::-1]),
            np.ascontiguousarray(self.surest[..., ::-1]),
            None if self.image is None else np.ascontiguousarray(self.image[..., ::-1]),
        )


def coarsen(tensor: np.ndarray | None, logits: np.ndarray) -> Coarse:
    """Average a frame and its logits over the cells of a coarse grid.

    Args:
        tensor: (C, H, W) as the network takes it; None for the slice of a 3D network.
        logits: (K, h, w) as it gives them.
    """
    height, width = logits.shape[1:]
    factor = min(1.0, SIDE_PX / max(height, width))
    size = max(1, round(factor * width)), max(1, round(factor * height))
    chances = shrink_planes(logits, size)
    surest = softmax(chances)
    return Coarse(chances, surest, None if tensor is None else shrink_planes(tensor, size))


def shrink(plane: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Average a plane over the cells of a grid of (width, height)."""
    if plane.shape == size[::-1]:
        return plane
    return np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_AREA))


def shrink_planes(planes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """New planes of float32, each averaged over the cells of a grid of (width, height)."""
    count, height, width = planes.shape
    planes = np.ascontiguousarray(planes, np.float32)
    if (height, width) == size[::-1]:
        return planes.copy()
    found = np.empty((count, *size[::-1]), np.float32)
    if height % size[1] == 0:
        # No cell lies in two planes, so one call does for all.
        stacked, out = planes.reshape(-1, width), found.reshape(-1, size[0])
        cv2.resize(stacked, (size[0], count * size[1]), out, interpolation=cv2.INTER_AREA)
        return found
    for plane, one in zip(planes, found, strict=True):
        cv2.resize(plane, size, one, interpolation=cv2.INTER_AREA)
    return found
