"""Colours of structures: far apart for every eye, and bright enough for thin lines on black."""

import functools
from collections.abc import Sequence

import numpy as np

Color = tuple[int, int, int]

# The first are the farthest apart. Chosen by distance in OKLab, to people who see no red, and
# to those who see no green, as well.
_TABLE: tuple[Color, ...] = (
    (230, 60, 60), (60, 160, 255), (255, 215, 50), (140, 0, 230), (0, 255, 255), (40, 140, 140),
    (255, 140, 0), (140, 200, 140), (200, 110, 200), (230, 170, 230), (0, 255, 140),
    (255, 0, 140), (110, 110, 255), (170, 40, 170), (0, 140, 40), (200, 255, 200),
)  # fmt: skip
_STEPS = (0, 40, 80, 120, 160, 200, 255)
_LEAST_LIGHTNESS, _LEAST_CHROMA = 0.52, 0.08

_TO_CONES = np.array(
    [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
)
_TO_LAB = np.array(
    [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
)


def choose_color(index: int) -> Color:
    """Choose the colour of a structure by its place among all, from 0.

    Sixteen are told apart at a glance. Each one after them is as far from all before it as the
    screen allows.
    """
    return _TABLE[index] if index < len(_TABLE) else _extend(index + 1)[index]


@functools.lru_cache(maxsize=4)
def _extend(count: int) -> tuple[Color, ...]:
    """Add colours to the table until there are `count`."""
    axes = np.meshgrid(_STEPS, _STEPS, _STEPS, indexing="ij")
    candidates = np.stack(axes, axis=-1).reshape(-1, 3)
    places = to_oklab(candidates)
    seen = (places[:, 0] > _LEAST_LIGHTNESS) & (np.hypot(*places[:, 1:].T) > _LEAST_CHROMA)
    candidates, places = candidates[seen], places[seen]
    near = np.linalg.norm(places[:, None] - to_oklab(_TABLE), axis=-1).min(axis=1)
    chosen = list(_TABLE)
    while len(chosen) < count:
        best = int(near.argmax())
        red, green, blue = candidates[best].tolist()
        chosen.append((red, green, blue))
        near = np.minimum(near, np.linalg.norm(places - places[best], axis=-1))
    return tuple(chosen)


def to_oklab(colors: np.ndarray | Sequence[Color]) -> np.ndarray:
    """Turn sRGB colours (N, 3), 0-255, into OKLab, where distances are those that are seen.

    Source:
        Björn Ottosson, A perceptual color space for image processing, 2020.
    """
    srgb = np.asarray(colors) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    return np.asarray(np.cbrt(linear @ _TO_CONES.T) @ _TO_LAB.T)
