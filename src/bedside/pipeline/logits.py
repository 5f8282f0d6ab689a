"""From the logits of one slice to labels on a finer grid."""

import numpy as np

from bedside.pipeline.resize import sample_weights


def most_likely(logits: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Interpolate logits linearly and take the class of the largest; of equals the first.

    Only where a class exceeds the background at one of the logits around a pixel can it exceed
    it in between, so that the rest of the slice is background and is not computed.

    Args:
        logits: (K, h, w) float32; class 0 is the background.
        rows: (H,) positions among the h logits, rising, from 0 to h - 1.
        columns: (W,) positions among the w logits, likewise.

    Returns:
        (H, W) uint8.

    Example:
        >>> logits = np.float32([[[0, 0]], [[-1, 3]]])
        >>> most_likely(logits, np.array([0.0]), np.array([0, 0.25, 0.5, 1])).tolist()
        [[0, 0, 1, 1]]
    """
    labels = np.zeros((len(rows), len(columns)), np.uint8)
    above = logits[1:] > logits[0]
    values = 1 + np.flatnonzero(above.any(axis=(1, 2)))
    if not values.size:
        return labels
    anywhere = above.any(axis=0)
    row_part, row_weights = _cut(np.flatnonzero(anywhere.any(axis=1)), rows, logits.shape[1])
    column_part, column_weights = _cut(
        np.flatnonzero(anywhere.any(axis=0)), columns, logits.shape[2]
    )
    # (h, K * w) -> (H, K, w) -> (w, K * H) -> (W, K, H): two products for all classes.
    picked = logits[[0, *values]].transpose(1, 0, 2)
    tall = (row_weights @ picked.reshape(len(picked), -1)).reshape(-1, *picked.shape[1:])
    sides = np.ascontiguousarray(tall.transpose(2, 1, 0))
    placed = (column_weights @ sides.reshape(len(sides), -1)).reshape(-1, *sides.shape[1:])
    best = placed[:, 0]
    part = np.zeros(best.shape, np.uint8)
    for index, value in enumerate(values.tolist(), 1):
        np.copyto(part, value, where=placed[:, index] > best)
        np.maximum(best, placed[:, index], out=best)
    labels[row_part, column_part] = part.T
    return labels


def _cut(nodes: np.ndarray, positions: np.ndarray, size: int) -> tuple[slice, object]:
    """Find the positions that lie next to a span of nodes, and their weights."""
    begin = int(np.searchsorted(positions, nodes[0] - 1, side="right"))
    end = int(np.searchsorted(positions, nodes[-1] + 1, side="left"))
    return slice(begin, end), sample_weights(positions[begin:end], size)
