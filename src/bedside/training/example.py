"""A training example: an image on the network's grid, and its labels."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Example:
    """One training image, in two or three axes.

    Attributes:
        image: (C, *S), in [0, 1] unless its preprocessing leaves other values; float32, or float16
            where it comes from a cache.
        truth: (*S) uint8 labels.
        clean: The image before artefacts and noise were planted in it; None if none were.
    """

    image: np.ndarray
    truth: np.ndarray
    clean: np.ndarray | None = None
