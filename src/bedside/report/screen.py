"""Frames on the screen: their size in true proportions, their intensities, shades over them."""

import math

import cv2
import numpy as np

from bedside.volume import ImageSequence

_LEAST_HEIGHT_PX = 480
SURE = 0.9
"""Probability of the likeliest class below which a pixel is shaded."""
SHADE, _MOST_SHADE = (255, 70, 255), 0.7
SHADED = f"less than {SURE:.0%} sure"
"""Colour of the shade, its opacity at most, and what stands in the legend."""


def screen_size(
    shape: tuple[int, int], proportions: tuple[float, float], *, longest_px: int
) -> tuple[int, int]:
    """Choose the size of a frame on the screen, in true proportions.

    A frame is at least 480 rows high, enlarged by whole numbers along the finer axis, unless
    its longer side would pass the limit.

    Args:
        shape: (height, width) of the frame in pixels.
        proportions: (height, width) of a pixel, in mm or by each other.
        longest_px: Most pixels along the longer side.

    Returns:
        (height, width) on the screen.

    Example:
        >>> screen_size((240, 320), (1, 1), longest_px=2048)
        (480, 640)
        >>> screen_size((512, 40), (0.5, 5.0), longest_px=2048)
        (512, 400)
        >>> screen_size((4000, 3000), (1, 1), longest_px=2048)
        (2048, 1536)
    """
    finer = min(proportions)
    height, width = (size * part / finer for size, part in zip(shape, proportions, strict=True))
    fit = longest_px / max(height, width)
    scale = min(math.ceil(_LEAST_HEIGHT_PX / height), math.floor(fit) if fit >= 1 else fit)
    return max(1, round(height * scale)), max(1, round(width * scale))


def display_window(sequence: ImageSequence) -> tuple[float, float]:
    """Find the intensities shown as black and white, the same for every frame.

    Bytes are shown as they are. Anything else is stretched between its 0.5th and 99.5th
    percentile, over up to five frames, spread evenly.
    """
    frames = [sequence.decode(index) for index in spread(len(sequence), 5)]
    if frames[0].dtype == np.uint8:
        return 0.0, 255.0
    values = np.concatenate([frame[np.isfinite(frame)].ravel() for frame in frames])
    if values.size == 0:
        return 0.0, 1.0
    low, high = (float(value) for value in np.percentile(values, (0.5, 99.5)))
    return low, max(high, low + 1e-6)


def spread(count: int, wanted: int) -> list[int]:
    """Choose `wanted` of `count` frames evenly, first and last among them; all if fewer.

    Example:
        >>> spread(30, 4)
        [0, 10, 19, 29]
    """
    return [
        int(index) for index in np.unique(np.linspace(0, count - 1, min(wanted, count)).round())
    ]


def to_display(frame: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    """Turn a decoded frame into a picture.

    Args:
        frame: (C, H, W); three channels are RGB, of any other number the first is shown.
        window: Intensities that become black and white.

    Returns:
        (H, W, 3) uint8, RGB.
    """
    planes = [_to_bytes(plane, window) for plane in (frame if frame.shape[0] == 3 else frame[:1])]
    return cv2.merge(planes if len(planes) == 3 else planes * 3)


def _to_bytes(plane: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    """Show a window of intensities as bytes; bytes are shown as they are."""
    if plane.dtype == np.uint8:
        return plane
    low, high = window
    values = plane.astype(np.float32)
    if plane.dtype.kind == "f":
        values = np.nan_to_num(values, nan=low, posinf=high, neginf=low)
    scaled = (np.clip(values, low, high) - low) * (255.0 / (high - low))
    return np.asarray(scaled.round().astype(np.uint8))


def shade(picture: np.ndarray, sureness: np.ndarray) -> None:
    """Shade a picture where the likeliest class is not very likely, in place."""
    known = cv2.resize(
        sureness.astype(np.float32), picture.shape[1::-1], interpolation=cv2.INTER_LINEAR
    )
    # An even choice between two classes is as unsure as it matters.
    weight = np.clip((SURE - known) / (SURE - 0.5), 0, 1)[..., None] * _MOST_SHADE
    picture[...] = np.rint(picture * (1 - weight) + np.array(SHADE, np.float32) * weight)
