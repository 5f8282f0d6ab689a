"""Outlines of labels, drawn into a picture on a grid of screen pixels.

Each structure that is in a label map has a line in its picture, whatever its number and its size.
"""

from collections.abc import Collection, Sequence

import cv2
import numpy as np

from bedside.spec.deployment import Label

_CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)

_DASH_LINES = 7
"""Length of a dash in widths of the line."""


def resize_picture(picture: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize a picture edge to edge: axes that shrink by areas, the others between pixels.

    Args:
        picture: (H, W) or (H, W, C).
        size: (height, width) on the screen.
    """
    height, width = picture.shape[:2]
    smaller = (min(width, size[1]), min(height, size[0]))
    if smaller != (width, height):
        picture = cv2.resize(picture, smaller, interpolation=cv2.INTER_AREA)
    # OpenCV aligns the outer edges, as the labels' resize does: no half-pixel shift.
    return np.asarray(cv2.resize(picture, size[::-1], interpolation=cv2.INTER_LINEAR))


def resize_labels(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize a label map edge to edge, without losing a structure.

    Where it grows, pixel for pixel. Where it shrinks, a screen pixel gets the label that covers
    most of it; a structure too thin or too small for that keeps the pixels it covers best.

    Args:
        labels: (H, W) uint8.
        size: (height, width) on the screen.

    Returns:
        `size` uint8.
    """
    height, width = labels.shape
    smaller = (min(height, size[0]), min(width, size[1]))
    if smaller != (height, width):
        labels = _shrink(labels, smaller)
    return np.asarray(cv2.resize(labels, size[::-1], interpolation=cv2.INTER_NEAREST_EXACT))


def _shrink(labels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Shrink a label map; see `resize_labels`."""
    values = np.flatnonzero(np.bincount(labels.ravel(), minlength=256)).tolist()
    covers = {
        value: cv2.resize(
            np.asarray(labels == value, np.float32), size[::-1], interpolation=cv2.INTER_AREA
        )
        for value in values
    }
    most = np.full(size, -1.0, np.float32)
    small = np.zeros(size, np.uint8)
    for value, cover in covers.items():
        small[cover > most] = value
        np.maximum(most, cover, out=most)
    for value in sorted(_find_lost(small, values), key=lambda value: -float(covers[value].sum())):
        small[covers[value] >= covers[value].max() / 2] = value
    for value in _find_lost(small, values):
        _put_back(small, value, covers[value])
    return small


def _find_lost(small: np.ndarray, values: Sequence[int]) -> list[int]:
    """List the structures among `values` that have no pixel."""
    counts = np.bincount(small.ravel(), minlength=256)
    return [value for value in values if value and not counts[value]]


def _put_back(small: np.ndarray, value: int, cover: np.ndarray) -> None:
    """Restore a lost structure, in place, at the nearest pixel that is not the last of another."""
    rows, columns = np.indices(small.shape)
    row, column = np.unravel_index(cover.argmax(), cover.shape)
    far = np.asarray((rows - row) ** 2 + (columns - column) ** 2, np.float64)
    counts = np.bincount(small.ravel(), minlength=256)
    far[(small > 0) & (counts[small] == 1)] = np.inf
    if np.isfinite(far.min()):
        small.flat[far.argmin()] = value


def sort_inwards(structures: Sequence[Label], labels: np.ndarray) -> tuple[Label, ...]:
    """Sort structures so that one within another comes after it, whatever their numbers.

    What surrounds something reaches farther, even where it is thin: they are sorted by the boxes
    around them, the largest first.

    Args:
        structures: What the values mean.
        labels: (frames, H, W) uint8, some frames or all.
    """
    reach = np.zeros(256)
    for frame in labels:
        for value in np.flatnonzero(np.bincount(frame.ravel(), minlength=256)):
            _, _, width, height = cv2.boundingRect(np.asarray(frame == value, np.uint8))
            reach[value] += width * height
    return tuple(sorted(structures, key=lambda structure: -reach[structure.value]))


def trace_lines(labels: np.ndarray, inwards: Sequence[int], *, line_px: int = 1) -> np.ndarray:
    """Trace the outline of every label, just inside its edge.

    A border that two structures share is traced once, for the inner one: two lines side by side
    would be seen as one of a third colour. A structure that would keep less than a quarter of
    its outline is traced whole, beside the others.

    Args:
        labels: (height, width) uint8, on the screen.
        inwards: The values to trace, inner ones last; others are background.
        line_px: Width of the lines, grown inwards.

    Returns:
        (height, width) uint8: the label whose line runs there; 0 elsewhere.
    """
    ranks = np.full(256, 255, np.uint8)
    ranks[list(inwards)] = np.arange(len(inwards), 0, -1)
    placed = cv2.LUT(labels, ranks)
    # Beyond the picture lies background, so that outlines are closed at its border.
    outer = cv2.compare(_spread(placed, cv2.MORPH_DILATE, line_px), placed, cv2.CMP_GT)
    inner = cv2.compare(_spread(placed, cv2.MORPH_ERODE, line_px), placed, cv2.CMP_LT)
    whole = cv2.bitwise_or(outer, inner)
    traced, all_of_it = (np.bincount(labels[line > 0], minlength=256) for line in (outer, whole))
    scarce = np.where(4 * traced < all_of_it, 255, 0).astype(np.uint8)
    scarce[ranks == 255] = 0
    lines = cv2.bitwise_or(outer, cv2.bitwise_and(whole, cv2.LUT(labels, scarce)))
    return cv2.copyTo(labels, lines)


def _spread(placed: np.ndarray, operation: int, line_px: int) -> np.ndarray:
    """Take the highest or lowest rank within `line_px` steps of every pixel."""
    return cv2.morphologyEx(
        placed, operation, _CROSS, iterations=line_px, borderType=cv2.BORDER_CONSTANT,
        borderValue=255,
    )  # fmt: skip


def find_corners(lines: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the inner corners of the steps of lines, where they are drawn at half strength.

    Args:
        lines: From `trace_lines`.

    Returns:
        The places of corners, flat indices, (N,), and the labels whose corners they are, (N,).
        No line runs there.
    """
    around = np.pad(lines, 1)
    up, down, left, right = around[:-2, 1:-1], around[2:, 1:-1], around[1:-1, :-2], around[1:-1, 2:]
    # A corner has two of one label beside it: of four neighbours, these are the pairs.
    twice = (up > 0) & ((up == down) | (up == left) | (up == right))
    twice |= (down > 0) & ((down == left) | (down == right))
    twice |= (left > 0) & (left == right)
    places = np.flatnonzero(twice & (lines == 0))
    rows, columns = np.divmod(places, lines.shape[1])
    middle = (rows + 1) * around.shape[1] + columns + 1
    steps = (-around.shape[1], around.shape[1], -1, 1)
    up, down, left, right = (around.ravel()[middle + step] for step in steps)
    first = (up > 0) & ((up == down) | (up == left) | (up == right))
    second = (down > 0) & ((down == left) | (down == right))
    return places, np.where(first, up, np.where(second, down, left))


def draw_contours(
    picture: np.ndarray,
    labels: np.ndarray,
    structures: Sequence[Label],
    *,
    line_px: int = 1,
    dashed: Collection[int] = (),
) -> None:
    """Draw the outline of every structure into a picture, in place.

    Args:
        picture: (height, width, 3) uint8, RGB.
        labels: (height, width) label values, on the screen; see `resize_labels`.
        structures: What the values mean, and their colours; inner ones last.
        line_px: Width of the line.
        dashed: Values whose outlines are dashed.
    """
    values = [structure.value for structure in structures]
    colors = np.zeros((256, 3), np.uint8)
    colors[values] = [structure.color for structure in structures]
    # Outside the box around all labels there is nothing to draw.
    left, top, width, height = cv2.boundingRect(labels)
    inside = slice(top, top + height), slice(left, left + width)
    if not width:
        return
    lines, part = trace_lines(labels[inside], values, line_px=line_px), picture[inside]
    if dashed:
        rows, columns = np.indices(lines.shape) // (_DASH_LINES * line_px)
        lines[np.isin(lines, list(dashed)) & ((rows + columns) % 2 == 1)] = 0
    on_line = np.nonzero(lines)
    part[on_line] = colors[lines[on_line]]
    places, owners = find_corners(lines)
    corners = np.divmod(places, width)
    part[corners] = ((part[corners].astype(np.uint16) + colors[owners] + 1) // 2).astype(np.uint8)
