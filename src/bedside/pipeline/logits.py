"""Labels and probabilities on a finer grid from the logits of one frame or slice."""

from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np

from bedside.errors import GeometryError
from bedside.pipeline.resize import sample_weights


@dataclass(frozen=True)
class Place:
    """An interpolation of planes.

    Attributes:
        shape: (H, W) that planes are interpolated to.
        draw: Takes a plane, (h, w) float32, and writes to one of (H, W) float32.
    """

    shape: tuple[int, int]
    draw: Callable[[np.ndarray, np.ndarray], object] = field(repr=False)

    def __call__(self, plane: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Return a plane interpolated: `out` if that is given, else a new one."""
        found = np.empty(self.shape, np.float32) if out is None else out
        self.draw(plane, found)
        return found


def find_place(
    shape: tuple[int, int], *, begin: tuple[float, float], size: tuple[float, float]
) -> Place:
    """Function that interpolates part of a plane linearly, edge to edge.

    Args:
        shape: (H, W) that it is interpolated to.
        begin: Edge of the part, (rows, columns) of the plane from its own edge.
        size: Rows and columns of the part.

    Returns:
        The interpolation; beyond the outermost centres the nearest holds.

    Example:
        >>> place = find_place((1, 4), begin=(0, 1), size=(1, 2))
        >>> place(np.float32([[9, 0, 2, 9]])).tolist()
        [[0.0, 0.5, 1.5, 2.0]]
    """
    height, width = shape
    if all(float(value).is_integer() for value in (*begin, *size)):
        top, left, rows, columns = (int(value) for value in (*begin, *size))
        inside = slice(top, top + rows), slice(left, left + columns)
        return Place(shape, lambda plane, out: cv2.resize(plane[inside], (width, height), dst=out))
    scale = size[1] / width, size[0] / height
    moved = [0.5 * step + low - 0.5 for step, low in zip(scale, begin[::-1], strict=True)]
    matrix = np.array([[scale[0], 0, moved[0]], [0, scale[1], moved[1]]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return Place(
        shape,
        lambda plane, out: cv2.warpAffine(
            plane, matrix, (width, height), out, flags=flags, borderMode=cv2.BORDER_REPLICATE
        ),
    )


def find_place_at(rows: np.ndarray, columns: np.ndarray, plane: tuple[int, int]) -> Place:
    """Function that samples a plane linearly at given rows and columns.

    Args:
        rows: (H,) in rows of the plane, 0 at the middle of the first.
        columns: (W,) likewise.
        plane: (h, w) of what it will be given.

    Returns:
        The interpolation; see `find_place`.
    """
    down, across = sample_weights(rows, plane[0]), sample_weights(columns, plane[1])
    return Place(
        (len(rows), len(columns)),
        lambda plane, out: np.copyto(out, (across @ (down @ plane).T).T),
    )


def most_likely(
    logits: np.ndarray, place: Place, *, probabilities: np.ndarray | None = None
) -> np.ndarray:
    """Class of the largest interpolated logit; the first of equals.

    A class that nowhere exceeds the background cannot do so in between, and is left out.

    Args:
        logits: (K, h, w) float32; class 0 is the background.
        place: To (H, W); see `find_place`.
        probabilities: (K, H, W) float32 that the softmax of the interpolated logits is
            written to; its largest class is the label everywhere.

    Returns:
        (H, W) uint8.

    Example:
        >>> logits = np.float32([[[0, 0]], [[-1, 3]]])
        >>> most_likely(logits, find_place((1, 8), begin=(0, 0), size=(1, 2))).tolist()
        [[0, 0, 0, 1, 1, 1, 1, 1]]
    """
    if probabilities is not None:
        placed = np.empty((len(logits), *place.shape), np.float32)
        for plane, out in zip(logits, placed, strict=True):
            place(plane, out)
        labels = most_likely(placed, Place(place.shape, lambda plane, out: np.copyto(out, plane)))
        softmax(placed)
        # Logits that differ in their last bit may have equal probabilities, of which the first
        # would be taken for the label.
        rows, columns = np.nonzero(placed.argmax(axis=0) != labels)
        tied = labels[rows, columns], rows, columns
        placed[tied] = np.nextafter(placed[tied], np.float32(2))
        probabilities[...] = placed
        return labels
    # Four planes for all classes: new ones would take a third of the time.
    best, placed = place(logits[0]), np.empty(place.shape, np.float32)
    labels = np.zeros(place.shape, np.uint8)
    higher = np.empty_like(labels)
    above = (logits[1:] > logits[0]).any(axis=(1, 2))
    for value in (1 + np.flatnonzero(above)).tolist():
        place(logits[value], placed)
        cv2.compare(placed, best, cv2.CMP_GT, dst=higher)
        # 255 where it is higher; each value is above all that labels have before.
        np.minimum(higher, value, out=higher)
        np.maximum(labels, higher, out=labels)
        cv2.max(placed, best, dst=best)
    return labels


def softmax(logits: np.ndarray, *, largest: np.ndarray | None = None) -> np.ndarray:
    """Turn logits into probabilities, in place.

    Args:
        logits: (K, ...) float32, contiguous.
        largest: (...) float32 that the largest of them are written to; None for a new array.

    Returns:
        The largest of them, (...).
    """
    best = logits[0]
    for plane in logits[1:]:  # reducing an axis takes longer than these few calls
        best = np.maximum(best, plane)
    logits -= best
    rows = logits.reshape(len(logits), -1)
    cv2.exp(rows, rows)  # a fourth of the time of numpy's without AVX-512, and as exact
    total = np.empty_like(logits[0]) if largest is None else largest
    np.copyto(total, logits[0])
    for plane in logits[1:]:
        total += plane
    # The largest logit is 0 by now, and its exponential 1.
    np.reciprocal(total, out=total)
    logits *= total
    return np.asarray(total)


def draw_masks(chances: np.ndarray, surest: np.ndarray) -> np.ndarray:
    """Where each class has the largest probability, (K, h, w) bool; the first of equals.

    Args:
        chances: (K, h, w).
        surest: (h, w), the largest of them.
    """
    masks: np.ndarray = chances == surest
    if np.count_nonzero(masks) != surest.size:
        taken = masks[0].copy()
        for mask in masks[1:]:
            np.greater(mask, taken, out=mask)
            taken |= mask
    return masks


def check_grid(shape: tuple[int, ...], expected: tuple[int, ...], name: str) -> None:
    """Refuse an array of another shape than expected.

    Raises:
        GeometryError: If it does not.
    """
    if shape != expected:
        raise GeometryError(f"{name} are on a grid of {shape}; expected that of {expected}.")
