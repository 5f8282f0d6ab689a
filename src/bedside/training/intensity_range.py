"""Ranges of intensity, so that intensity is augmented in [0, 1] whatever the network is given."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bedside.spec import PreprocessStep, ScaleRange, ZScore


@dataclass(frozen=True)
class Values:
    """Range of the intensities of images.

    Attributes:
        low: What is black.
        high: What is white.
        own: Whether each channel of each image has its own instead, its smallest and its
            largest value.
        zero_outside: Whether what lies beyond the image is 0; black otherwise.
    """

    low: float = 0.0
    high: float = 1.0
    own: bool = False
    zero_outside: bool = True


UNIT = Values()
"""Of images in [0, 1]."""


def find_values(steps: Sequence[PreprocessStep], *, spatial_dims: int) -> Values:
    """Range of values after a preprocessing, from the last step that sets one.

    A scan is padded after its steps, with zeros; a frame before them, with black.

    Args:
        steps: Of the preprocessing, in order.
        spatial_dims: Of the network, 2 or 3.

    Example:
        >>> find_values([ScaleRange(low=-1)], spatial_dims=3)
        Values(low=-1.0, high=1.0, own=False, zero_outside=True)
    """
    for step in reversed(steps):
        if isinstance(step, ZScore):
            return Values(own=True, zero_outside=spatial_dims == 3 or step.nonzero)
        if isinstance(step, ScaleRange):
            return Values(float(step.low), zero_outside=spatial_dims == 3 or step.low == 0)
    return UNIT


def augment_intensity(
    image: np.ndarray, values: Values, change: Callable[[np.ndarray], np.ndarray]
) -> np.ndarray:
    """Change intensities of an image in [0, 1], clipped to that range.

    Where values are others, they are brought there and back. What is 0 in all channels lies
    beyond the image then, or is background that a step has left out.

    Args:
        image: (C, *S) float32, with 0 for what was moved in from beyond its edges.
        values: Those that it has.
        change: From (C, *S) in [0, 1] to the same shape, or to several such images, stacked.

    Returns:
        As `image`, or several.
    """
    if values == UNIT:
        unit: np.ndarray = np.clip(change(image), 0, 1)
        return unit
    outside = (image == 0).all(axis=0)
    axes = tuple(range(1, image.ndim))
    low, high = np.float32(values.low), np.float32(values.high)
    if values.own:
        low, high = image.min(axis=axes, keepdims=True), image.max(axis=axes, keepdims=True)
    span = np.maximum(high - low, np.float32(1e-6))
    changed: np.ndarray = np.clip(change((image - low) / span), 0, 1) * span + low
    changed[..., outside] = 0 if values.zero_outside else np.min(low)
    return changed
