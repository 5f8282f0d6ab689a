"""Random draws and intensity changes for augmentation of images and volumes."""

import functools
from collections.abc import Sequence

import cv2
import numpy as np

from bedside.errors import SpecError
from bedside.spec import AugmentSpec

BENDS = 6
"""Places along each axis at which a smooth deformation is drawn; between them it is smooth."""


def draw_mirrors(spec: AugmentSpec, rng: np.random.Generator, *, spatial_dims: int) -> list[int]:
    """Draw for each axis, in array order, whether it is mirrored (-1) or not (1).

    Raises:
        SpecError: If `flip_axes` is for another number of axes.
    """
    chances = spec.flip_axes or (*[0.0] * (spatial_dims - 1), spec.flip)
    _check_axes("flip_axes", chances, spatial_dims)
    return [-1 if rng.random() < chance else 1 for chance in chances]


def draw_angles(spec: AugmentSpec, rng: np.random.Generator) -> np.ndarray:
    """Draw a rotation about each of three axes, in radians.

    Raises:
        SpecError: If `rotate_axes_deg` is not for three axes.
    """
    limits = spec.rotate_axes_deg or (spec.rotate_deg,) * 3
    _check_axes("rotate_axes_deg", limits, 3)
    return np.deg2rad([rng.uniform(-limit, limit) for limit in limits])


@functools.lru_cache(maxsize=32)
def smooth_basis(length: int) -> np.ndarray:
    """Weights that raise `BENDS` values to `length` by cubic interpolation: (length, BENDS)."""
    corners = np.eye(BENDS, dtype=np.float32)
    return cv2.resize(corners, (BENDS, length), interpolation=cv2.INTER_CUBIC)


def raise_to(image: np.ndarray, gamma: float) -> np.ndarray:
    """Raise values of at least 0 to a power; OpenCV does it several times as fast as numpy."""
    flat = cv2.pow(image.reshape(len(image), -1), gamma)
    return np.asarray(flat, np.float32).reshape(image.shape)


def _check_axes(name: str, values: Sequence[float], spatial_dims: int) -> None:
    if len(values) != spatial_dims:
        raise SpecError(
            f"augment.{name} has {len(values)} entries; expected one for {spatial_dims} axes."
        )
