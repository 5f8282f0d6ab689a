"""The input gate of a bundle: what its training images look like to the network, as numbers."""

import math
from dataclasses import dataclass
from typing import Literal

from bedside.errors import SpecError

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
class Gate:
    """Tells images that a network was made for from others.

    Attributes:
        views: Descriptions of an image; the one in which it is farthest counts.
        threshold: Distance from which on an image is foreign, as a multiple of what 99 % of the
            training images stay within.
        images: Training images that it was fitted on.
        accepted: How many of the validation images it accepts.
        checked: How many there were.
    """

    views: tuple[GateView, ...]
    threshold: float
    images: int
    accepted: int = 0
    checked: int = 0

    def __post_init__(self) -> None:
        """Refuse a gate that judges nothing.

        Raises:
            SpecError: If so.
        """
        if not self.views or not self.threshold > 0 or not math.isfinite(self.threshold):
            raise SpecError("a gate needs views and a threshold above 0.")
