"""Detection of weights that are small integers times a scale per output channel."""

from dataclasses import dataclass

import numpy as np

LARGEST = 127
# How far from an integer a weight may lie, in steps of its grid: folding a batch norm rounds
# each weight by 6e-8 of itself, which is 1e-5 steps at 127.
_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Grid:
    """Weights as integers and scales.

    Attributes:
        integers: Like the weights, int8.
        scale: (out_channels,) float32; negative nowhere.
    """

    integers: np.ndarray
    scale: np.ndarray


def find_grid(weights: np.ndarray, *, largest: int = LARGEST) -> Grid | None:
    """The coarsest grid of each output channel that contains all its weights.

    How they were rounded need not be known, nor what was folded into them: a factor per channel
    only changes the scale.

    Args:
        weights: (out_channels, ...) float.
        largest: Largest integer of the finest grid.

    Returns:
        The grid; None if a channel has none, as weights that were never rounded.

    Example:
        >>> grid = find_grid(np.float32([[0.5, -1.0, 0.0], [0.2, 0.2, -0.2]]))
        >>> grid.integers.tolist(), grid.scale.round(6).tolist()
        ([[1, -2, 0], [1, 1, -1]], [0.5, 0.20000000298023224])
        >>> find_grid(np.float32([[0.5, -1.0, 0.1234]])) is None
        True
    """
    rows = weights.reshape(len(weights), -1).astype(np.float64)
    highest = np.abs(rows).max(axis=1, keepdims=True)
    unit = rows / np.where(highest > 0, highest, 1.0)
    integers = np.zeros(rows.shape, np.int8)
    scale = np.ones(len(rows), np.float32)
    left = np.arange(len(rows))
    for count in range(1, largest + 1):
        steps = unit[left] * count
        near = np.rint(steps)
        fits = np.abs(steps - near).max(axis=1) <= _TOLERANCE
        chosen = left[fits]
        integers[chosen] = near[fits].astype(np.int8)
        scale[chosen] = (highest[chosen, 0] / count).astype(np.float32)
        left = left[~fits]
        if not len(left):
            scale[highest[:, 0] == 0] = 1.0
            return Grid(integers.reshape(weights.shape), scale)
    return None
