"""Augmentation of training images, as other patients, probes and machines would vary them."""

import dataclasses

import numpy as np

from bedside.errors import SpecError
from bedside.spec import AugmentSpec
from bedside.training.augment_image import augment_image
from bedside.training.augment_volume import augment_volume
from bedside.training.example import Example
from bedside.training.intensity_range import UNIT, Values

__all__ = ["Example", "augment"]

_BY_AXES = {2: augment_image, 3: augment_volume}


def augment(
    example: Example,
    spec: AugmentSpec,
    rng: np.random.Generator,
    *,
    size: tuple[int, ...] | None = None,
    values: Values = UNIT,
) -> Example:
    """Augment an example, as a copy.

    Args:
        example: An image with two or three axes.
        spec: Augmentations and their ranges.
        rng: Source of the random numbers.
        size: What is cut out of the middle; the whole if None.
        values: What values the image has, by its preprocessing.
    """
    augment = _BY_AXES[example.truth.ndim]
    augmented = augment(example, spec, rng, size or example.truth.shape, values)
    if spec.channel_dropout:
        return _drop_channels(augmented, spec, rng, values)
    return augmented


def _drop_channels(
    example: Example, spec: AugmentSpec, rng: np.random.Generator, values: Values
) -> Example:
    """Leave channels out at random, but never all: they become what a channel of zeros does."""
    chances, count = np.ravel(spec.channel_dropout), len(example.image)
    if len(chances) not in (1, count):
        raise SpecError(
            f"augment.channel_dropout has {len(chances)} entries; expected one, or one for each of "
            f"{count} channels."
        )
    kept = rng.random(count) >= chances
    kept[rng.integers(len(kept))] |= not kept.any()
    image = example.image.copy()
    image[~kept] = 0.0 if values.own else values.low
    return dataclasses.replace(example, image=image)
