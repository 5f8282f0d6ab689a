"""Masks that flicker less: logits blended with those before, moved along with the image."""

from typing import Any

import cv2
import numpy as np

NEW_WEIGHT = 0.4
"""Weight of a new frame where the one before agrees with it; `benchmarks/stream_variants.md`."""
LONGEST_S = 0.2
_MOST = 0.45
"""Mean weight over a frame from which it is too far from the one before, and counts alone."""
_DIFFERENT = 0.4
_NOISE = 6.0
_SURE = 4.0
_RESIDUAL_PX, _CONTRAST_PX, _CHANGE_PX = 3.0, 8.0, 7
WARNING = "Masks are steadied over time and lag behind by about half a frame."


class SteadyLogits:
    """Blends the logits of each frame with those before.

    The logits before are moved along by the optical flow between the two images. The new frame
    counts alone where the images differ though moved, and where it is sure of another class, as the
    one before says nothing about it there; and everywhere if these are large parts of the image.
    """

    def __init__(self) -> None:
        self._finder = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._before: tuple[np.ndarray, np.ndarray, object, float] | None = None

    def restart(self) -> None:
        """Forget the frames before."""
        self._before = None

    def blend(
        self, tensor: np.ndarray, logits: np.ndarray, *, plan: object, time_s: float
    ) -> np.ndarray:
        """Blend the logits of a frame.

        Args:
            tensor: (1, C, H, W) float32, the image as the network takes it.
            logits: (K, h, w) float32; not changed.
            plan: What placed the frame in the tensor; logits of another plan are not blended.
            time_s: Time of the frame; one that is more than 0.2 s later is not blended.

        Returns:
            (K, h, w) float32, in memory of its own.
        """
        image = cv2.resize(
            tensor[0].mean(axis=0), logits.shape[:0:-1], interpolation=cv2.INTER_AREA
        )
        before = self._before
        if before is None or before[2] is not plan or time_s - before[3] > LONGEST_S:
            found = logits.copy()
        else:
            found = self._blend(image, logits, *before[:2])
        self._before = image, found, plan, time_s
        return found

    def _blend(
        self, image: np.ndarray, logits: np.ndarray, old_image: np.ndarray, old: np.ndarray
    ) -> np.ndarray:
        low, high = min(image.min(), old_image.min()), max(image.max(), old_image.max())
        scale = 255 / max(float(high - low), 1e-6)
        new_grey, old_grey = (((each - low) * scale) for each in (image, old_image))
        empty: Any = None
        flow = self._finder.calc(new_grey.astype(np.uint8), old_grey.astype(np.uint8), empty)
        rows, columns = np.mgrid[: flow.shape[0], : flow.shape[1]].astype(np.float32)
        places = columns + flow[..., 0], rows + flow[..., 1]

        def move(plane: np.ndarray) -> np.ndarray:
            edge = cv2.BORDER_REPLICATE
            found: np.ndarray = cv2.remap(plane, *places, cv2.INTER_LINEAR, borderMode=edge)
            return found

        moved = np.stack([move(plane) for plane in old])
        weight = np.maximum(
            _find_differences(new_grey, move(old_grey)), _find_changes(logits, moved)
        )
        if weight.mean() > _MOST:
            return logits.copy()
        blended: np.ndarray = moved + weight * (logits - moved)
        return blended


def _find_differences(image: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """Weight of the new frame from the difference of the images, beside the contrast around."""
    residual = cv2.GaussianBlur(np.abs(image - moved), (0, 0), _RESIDUAL_PX)
    mean = cv2.GaussianBlur(image, (0, 0), _CONTRAST_PX)
    square = cv2.GaussianBlur(image * image, (0, 0), _CONTRAST_PX)
    contrast = np.sqrt(np.maximum(square - mean * mean, 0)) + _NOISE
    excess: np.ndarray = (residual / (_DIFFERENT * contrast) - 1).clip(0, 1)
    return NEW_WEIGHT + (1 - NEW_WEIGHT) * excess


def _find_changes(logits: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """Weight of the new frame from where it is sure of another class than before."""
    best = np.partition(logits, -2, axis=0)[-2:]
    margin = ((best[1] - best[0]) / _SURE).clip(0, 1)
    differs = (logits.argmax(axis=0) != moved.argmax(axis=0)).astype(np.float32)
    share = cv2.blur(differs, (_CHANGE_PX, _CHANGE_PX))
    changes: np.ndarray = (2 * share * margin - 0.5).clip(0, 1)
    return changes
