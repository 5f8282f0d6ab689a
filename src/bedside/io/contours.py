"""Thin contours of labels, drawn into a picture on a grid of screen pixels."""

from collections.abc import Sequence

import cv2
import numpy as np

from bedside.spec.deployment import Label

_CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], np.uint8)


def trace_lines(labels: np.ndarray, scale: tuple[int, int], *, line_px: int = 1) -> np.ndarray:
    """Trace the border of every label on the screen, just inside its true edge.

    The label map is enlarged first, pixel for pixel, so that the lines run along the
    borders of source pixels and not through their middles. A border shared by two
    structures is traced once, for the lower label.

    Args:
        labels: (H, W) uint8.
        scale: Screen pixels per source pixel, (rows, columns).
        line_px: Width of the lines on the screen, grown inwards.

    Returns:
        (rows x H, columns x W) uint8: the label whose line runs there; 0 elsewhere.
    """
    size = (labels.shape[1] * scale[1], labels.shape[0] * scale[0])
    large = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)
    # Background wraps round to the highest: a line is where something higher is near.
    rank = large - np.uint8(1)
    highest = cv2.dilate(
        rank, _CROSS, iterations=line_px, borderType=cv2.BORDER_CONSTANT, borderValue=255
    )
    return cv2.copyTo(large, cv2.compare(highest, rank, cv2.CMP_GT))


def find_corners(lines: np.ndarray, values: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Find the inner corners of the steps of lines, where they are drawn at half strength.

    Args:
        lines: From `trace_lines`.
        values: Labels in the order in which they are drawn; a line covers the corners of those
            before it.

    Returns:
        The places of corners, flat indices, (N,), and the labels whose corners they are, (2, N)
        in the order of drawing; 0 for none.
    """
    around = np.pad(lines, 1)
    up, down, left, right = around[:-2, 1:-1], around[2:, 1:-1], around[1:-1, :-2], around[1:-1, 2:]
    # A corner has two of one label beside it: of four neighbours, these are the pairs.
    twice = (up > 0) & ((up == down) | (up == left) | (up == right))
    twice |= (down > 0) & ((down == left) | (down == right))
    twice |= (left > 0) & (left == right)
    places = np.flatnonzero(twice)
    rows, columns = np.divmod(places, lines.shape[1])
    middle = (rows + 1) * around.shape[1] + columns + 1
    steps = (-around.shape[1], around.shape[1], -1, 1)
    up, down, left, right = (around.ravel()[middle + step] for step in steps)
    # Pairs that the first neighbour belongs to, and those that it does not.
    one = np.where((up == down) | (up == left) | (up == right), up, 0)
    other = np.where((down == left) | (down == right), down, np.where(left == right, left, 0))
    order = np.zeros(256, np.uint8)
    order[list(values)] = np.arange(1, len(values) + 1)
    pair = order[one], np.where(one == other, np.uint8(0), order[other])
    drawn = np.stack([np.minimum(*pair), np.maximum(*pair)])
    drawn *= drawn > order[lines.ravel()[places]]
    return places, np.append(np.uint8(0), np.asarray(values, np.uint8))[drawn]


def draw_contours(
    picture: np.ndarray, labels: np.ndarray, structures: Sequence[Label], scale: tuple[int, int],
    *, line_px: int = 1,
) -> None:  # fmt: skip
    """Draw the outline of every structure into a picture, in place.

    Args:
        picture: (rows x H, columns x W, 3) uint8, RGB, contiguous.
        labels: (H, W) label values.
        structures: What the values mean, and their colours.
        scale: (rows, columns) that the picture is larger by.
        line_px: Width of the line.
    """
    values = [structure.value for structure in structures]
    colors = np.zeros((256, 3), np.uint8)
    colors[values] = [structure.color for structure in structures]
    known = np.zeros(256, np.uint8)
    known[values] = 255
    lines = trace_lines(labels, scale, line_px=line_px)
    painted = cv2.LUT(cv2.merge([lines] * 3), colors[:, None])
    cv2.copyTo(painted, cv2.LUT(lines, known), picture)
    places, drawn = find_corners(lines, values)
    pixels = picture.reshape(-1, 3)
    for owners in drawn:
        (wanted,) = np.nonzero(owners)
        mixed = pixels[places[wanted]].astype(np.float32)
        mixed += colors[owners[wanted]]
        mixed /= 2
        pixels[places[wanted]] = mixed.round().astype(np.uint8)
