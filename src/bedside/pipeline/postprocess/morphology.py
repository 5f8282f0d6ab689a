"""Opening and closing by a ball, of one label, within the image."""

import math

import cv2
import numpy as np


def reach(radius: tuple[float, ...]) -> tuple[int, ...]:
    """Whole pixels that a ball covers along each axis.

    Example:
        >>> reach((1.5, 3.0))
        (1, 3)
    """
    return tuple(math.floor(length) for length in radius)


def opened(mask: np.ndarray, radius: tuple[float, ...]) -> np.ndarray:
    """Opening: the union of all balls inside the mask; the image's edge cuts no ball.

    Args:
        mask: (H, W) or (D, H, W) uint8, 255 inside.
        radius: Of the ball along each axis, in pixels.

    Returns:
        The same shape and values.
    """
    if mask.ndim == 2:
        return cv2.morphologyEx(mask, cv2.MORPH_OPEN, _disc(radius))
    return _dilated(~_dilated(~mask, radius), radius)


def closed(mask: np.ndarray, radius: tuple[float, ...]) -> np.ndarray:
    """Closing: all but the union of balls outside the mask."""
    if mask.ndim == 2:
        return cv2.morphologyEx(mask, cv2.MORPH_CLOSE, _disc(radius))
    return ~_dilated(~_dilated(mask, radius), radius)


def touching(mask: np.ndarray) -> np.ndarray:
    """Mask dilated by its 8 neighbours."""
    if mask.ndim == 2:
        touched: np.ndarray = cv2.dilate(mask, np.ones((3, 3), np.uint8))
        return touched
    # It is imported where a scan needs it, since it takes 0.2 s.
    from scipy import ndimage

    grown: np.ndarray = ndimage.maximum_filter(mask, size=3, mode="constant")
    return grown


def _disc(radius: tuple[float, ...]) -> np.ndarray:
    """Kernel of an ellipse about the middle pixel."""
    down, across = reach(radius)
    rows, columns = np.mgrid[-down : down + 1, -across : across + 1]
    inside = (rows / radius[0]) ** 2 + (columns / radius[1]) ** 2 <= 1 + 1e-9
    disc: np.ndarray = inside.astype(np.uint8)
    return disc


def _dilated(mask: np.ndarray, radius: tuple[float, ...]) -> np.ndarray:
    """Mask dilated by a ball, from the distance transform."""
    if not mask.any():
        return mask
    from scipy import ndimage

    sampling = [1 / length for length in radius]
    distance = ndimage.distance_transform_edt(mask == 0, sampling=sampling)
    grown: np.ndarray = np.where(distance <= 1 + 1e-9, 255, 0).astype(np.uint8)
    return grown
