"""The five descriptions of an image and its logits that a gate judges by."""

import math
from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from bedside.pipeline.coarse import Coarse, average_cells, coarsen

THUMBNAIL_PX, TEXTURE_PX, OUTLINES_PX = 12, 8, 8
GRAIN_STEPS_PX = (1, 2, 4)
SAMPLED_ROWS = 32
"""Rows of a frame, spread over it, of which grain and texture are made."""

VIEW_NAMES: Mapping[str, str] = {
    "outlines": "what the network finds in it",
    "thumbnail": "its picture",
    "texture": "its texture",
    "grain": "its brightness and grain",
    "figures": "how sure the network is and how bright it is",
}
"""Descriptions of an image in words, by name."""

_WHITE = 255
# First grey level of each bin: even ones of brightness, then for each of four changes such of which
# the roots are even.
_CHANGE_BINS = (0, 3, 11, 23, 41, 64, 92, 125, 164, 207)
_BIN_BEGINS = np.array([
    *range(0, _WHITE + 1, 16),
    *((_WHITE + 1) * number + begin for number in range(1, 5) for begin in _CHANGE_BINS),
])  # fmt: skip
_UNSURE = 0.8
_DARK = 0.02


def describe(tensor: np.ndarray, logits: np.ndarray) -> dict[str, np.ndarray]:
    """Describe an image and what the network made of it.

    Args:
        tensor: (C, H, W).
        logits: (K, h, w).

    Returns:
        A vector of float64 for each key of `VIEW_NAMES`.
    """
    found = describe_coarse(tensor, coarsen(tensor, logits))
    return {name: np.asarray(each, np.float64) for name, each in found.items()}


def describe_coarse(tensor: np.ndarray, coarse: Coarse) -> dict[str, np.ndarray]:
    """Describe an image that is on the coarse grid with its logits.

    Args:
        tensor: (C, H, W).
        coarse: The same, averaged.

    Returns:
        A vector for each key of `VIEW_NAMES`.
    """
    assert coarse.image is not None  # a gate judges frames with their image
    grey = tensor[len(tensor) // 2]
    step = max(1, len(grey) // SAMPLED_ROWS)
    rows = cv2.convertScaleAbs(grey[:-1:step], alpha=_WHITE)
    down = cv2.absdiff(cv2.convertScaleAbs(grey[1::step], alpha=_WHITE), rows)
    right = [cv2.absdiff(rows[:, apart:], rows[:, :-apart]) for apart in GRAIN_STEPS_PX]
    thumbnail = average_cells(coarse.image, THUMBNAIL_PX)
    brightness = float(np.add.reduce(thumbnail, dtype=np.float64)) / thumbnail.size
    return {
        "outlines": average_cells(coarse.chances[1:], OUTLINES_PX),
        "thumbnail": thumbnail,
        "texture": average_cells(down[None], TEXTURE_PX) / np.float64(_WHITE),
        "grain": _describe_grain([rows, down, *right]),
        "figures": _describe_figures(coarse, brightness),
    }


def _describe_grain(planes: Sequence[np.ndarray]) -> np.ndarray:
    """How often each brightness occurs, and each change over a few pixels, wherever it is."""
    levels = _WHITE + 1
    counts = np.empty((len(planes), levels, 1), np.float32)
    for plane, row in zip(planes, counts, strict=True):
        cv2.calcHist([plane], [0], None, [levels], [0, levels], row)
    sizes = np.array([plane.size for plane in planes], np.float64)
    shares = counts.reshape(len(planes), levels) / sizes[:, None]
    return np.asarray(np.sqrt(np.add.reduceat(shares.ravel(), _BIN_BEGINS)))


def _describe_figures(coarse: Coarse, brightness: float) -> np.ndarray:
    """How sure the network is, how large the structures are, and how bright the image."""
    surest, image, classes = coarse.surest, coarse.image, coarse.classes
    assert image is not None
    pixels, values = surest.size, image.size
    expected, doubted = coarse.sums[1:classes], coarse.sums[classes : 2 * classes]
    variance = max(sum(coarse.light_squared) / values - brightness**2, 0.0)
    return np.array([
        sum(doubted) / pixels, coarse.sums[2 * classes] / pixels,
        np.count_nonzero(surest < _UNSURE) / pixels, *(each / pixels for each in expected),
        np.count_nonzero(image < _DARK) / values, brightness, math.sqrt(variance),
    ])  # fmt: skip
