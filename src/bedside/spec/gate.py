"""The input gate of a bundle: what its training images look like to the network, as numbers."""

import math
from dataclasses import dataclass, field
from typing import Literal

from bedside.errors import SpecError
from bedside.spec.reading import UNLESS_EMPTY

VERSION = 2
"""Version of the descriptions that gates are fitted to."""

GatePolicy = Literal["refuse", "warn", "off"]
"""What happens to an image that looks unlike those a network was trained on."""


@dataclass(frozen=True)
class GateView:
    """How the training images spread in one description of an image and its logits.

    A description is centred and scaled; its distance along the axes of the training images and
    beside them are measured apart, each as a part of what 99 % of the training images stay within.

    Attributes:
        name: Key of the table of descriptions in `bedside.pipeline.gate`.
        mean: Mean of the description over training images.
        scale: Its standard deviation, with a floor.
        axes: Principal axes of the scaled description, one row each.
        spread: Variance along each axis.
        residual: Mean squared distance beside the axes.
        far_along: Distance along the axes, squared and divided by `spread` and the number of axes,
            that 99 % of the training images that were held out stay within.
        far_beside: The same beside the axes, divided by `residual`.
    """

    name: str
    mean: tuple[float, ...]
    scale: tuple[float, ...]
    axes: tuple[tuple[float, ...], ...]
    spread: tuple[float, ...]
    residual: float
    far_along: float
    far_beside: float

    def __post_init__(self) -> None:
        """Refuse numbers that do not fit each other.

        Raises:
            SpecError: If so.
        """
        size = len(self.mean)
        lengths = {len(self.scale), *(len(axis) for axis in self.axes)}
        if lengths != {size} or len(self.spread) != len(self.axes) or not size:
            raise SpecError(f'the gate\'s view "{self.name}" has numbers of different lengths.')
        positive = (*self.scale, *self.spread, self.residual, self.far_along, self.far_beside)
        values = (*self.mean, *positive, *(value for axis in self.axes for value in axis))
        if min(positive) <= 0 or not all(map(math.isfinite, values)):
            raise SpecError(f'the gate\'s view "{self.name}" has numbers that are out of range.')


@dataclass(frozen=True)
class GateContrast:
    """What tells the training images from images of other kinds: a logistic regression.

    Its score is the sum of the scaled descriptions of all views, each number kept in [-6, 6], times
    `weights`, plus `bias`; images of other kinds have high ones.

    Attributes:
        weights: For each view of the gate, in its order, a weight of each number.
        bias: Added to the score.
        far: Score that 99 % of the training images that were held out stay below.
        spread: Score beyond `far` that counts as a distance of 1 more: their standard deviation,
            or down to an eighth of it where images of other kinds are near.
        images: Images of other kinds that it was fitted to.
        kinds: Data sets that they are from.
    """

    weights: tuple[tuple[float, ...], ...]
    bias: float
    far: float
    spread: float
    images: int
    kinds: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse numbers that are out of range.

        Raises:
            SpecError: If so.
        """
        values = (self.bias, self.far, self.spread, *(each for row in self.weights for each in row))
        if not self.spread > 0 or not all(map(math.isfinite, values)):
            raise SpecError("the gate's contrast has numbers that are out of range.")


@dataclass(frozen=True)
class Gate:
    """Separates images that a network was made for from others.

    Attributes:
        views: Descriptions of an image; the one in which it is farthest counts.
        threshold: Distance from which on an image is foreign, as a multiple of what 99 % of the
            training images stay within.
        images: Training images that it was fitted on.
        accepted: How many of the validation images it accepts.
        checked: How many there were.
        contrast: What tells the training images from others, if the gate was fitted to some; it
            counts like one more view.
        version: Of the descriptions; one of another version than `VERSION` judges nothing.
        frame_px: Shortest and longest side of the frames of training images in pixels, where the
            network takes pixels as they are from the middle of a frame; else None.
    """

    views: tuple[GateView, ...]
    threshold: float
    images: int
    accepted: int = 0
    checked: int = 0
    contrast: GateContrast | None = field(default=None, metadata=UNLESS_EMPTY)
    version: int = 1
    frame_px: tuple[int, int] | None = field(default=None, metadata=UNLESS_EMPTY)

    def __post_init__(self) -> None:
        """Refuse a gate that judges nothing.

        Raises:
            SpecError: If so.
        """
        if not self.views or not self.threshold > 0 or not math.isfinite(self.threshold):
            raise SpecError("a gate needs views and a threshold above 0.")
        sizes = [len(view.mean) for view in self.views]
        if self.frame_px is not None and not 0 < self.frame_px[0] <= self.frame_px[1]:
            raise SpecError("a gate's frames need two sides above 0, the shorter one first.")
        if self.contrast is not None and [len(row) for row in self.contrast.weights] != sizes:
            raise SpecError("the gate's contrast has other views or numbers than the gate.")
