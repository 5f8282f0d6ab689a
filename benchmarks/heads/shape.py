"""How smooth contours are, and how many bytes they take."""

import zlib

import cv2
import numpy as np

from heads.rings import even_out, trace_mask

STEP_PX = 8.0
_STEPS_PER_PX = 16


def find_turns(mask: np.ndarray) -> float | None:
    """How often the outline of a mask turns, in whole turns: 1 if it is convex, more if it waves.

    The outline is followed in steps of `STEP_PX`, beneath which pixels are seen instead of shapes.

    Args:
        mask: (H, W) bool.
    """
    ring = trace_mask(mask, vertices=512)
    if ring is None:
        return None
    closed = np.concatenate([ring, ring[:1]])
    length = float(np.hypot(*np.diff(closed, axis=0).T).sum())
    even = even_out(ring, max(8, round(length / STEP_PX)))
    edges = np.roll(even, -1, axis=0) - even
    angles = np.arctan2(edges[:, 1], edges[:, 0])
    turned = np.angle(np.exp(1j * (np.roll(angles, -1) - angles)))
    return float(np.abs(turned).sum() / (2 * np.pi))


def count_contour_bytes(rings: list[np.ndarray]) -> int:
    """Bytes of contours in sixteenths of a pixel, as differences, deflated."""
    whole = np.round(np.stack(rings) * _STEPS_PER_PX).astype(np.int16)
    steps = np.diff(whole, axis=1, prepend=0)
    return len(zlib.compress(steps.tobytes(), 9))


def count_mask_bytes(labels: np.ndarray) -> int:
    """Bytes of a label map as PNG, (H, W) uint8."""
    coded = cv2.imencode(".png", labels, [cv2.IMWRITE_PNG_COMPRESSION, 9])[1]
    return len(coded)
