"""Artefacts of random strength, planted to calibrate a confidence; none to score networks by.

Of those of `planted.ARTEFACTS`, which check what was calibrated, mirroring, compression and other
sizes of pixels are of kinds that nothing here is; gain and speckle are here with any strength.
"""

import zlib
from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from bedside.evaluation.planted import (
    Artefact,
    Picture,
    add_noise,
    change_gain,
    lose_side,
    per_plane,
    rotate,
    shade,
    speckle,
    tilt_gain,
)


def choose_artefacts(modality: str, name: str, *, count: int, seed: int = 0) -> list[Artefact]:
    """Some of the artefacts that occur in a modality; chance depends on the name and the seed."""
    usable = [
        each for each in CHANCE_ARTEFACTS if not each.modalities or modality in each.modalities
    ]
    rng = np.random.default_rng((seed, zlib.crc32(name.encode())))
    return [usable[index] for index in rng.permutation(len(usable))[:count]]


def _shade(picture: Picture, rng: np.random.Generator) -> Picture:
    return shade(picture, rng, widths_deg=(rng.uniform(10, 45),))


def _add_noise(picture: Picture, rng: np.random.Generator) -> Picture:
    return add_noise(picture, rng, strength=_draw(rng, 0.02, 0.25))


def _blur(picture: Picture, rng: np.random.Generator) -> Picture:
    sigma_px = rng.uniform(0.004, 0.025) * min(picture.frames.shape[2:])
    return per_plane(picture, lambda plane: cv2.GaussianBlur(plane, (0, 0), sigma_px))


def _rotate(picture: Picture, rng: np.random.Generator) -> Picture:
    return rotate(picture, rng, degrees=rng.uniform(10, 50))


def _lose_patch(picture: Picture, rng: np.random.Generator) -> Picture:
    """Lose a rectangle around a pixel of a structure: black, or as bright as the mean."""
    frames = picture.frames.copy()
    size = frames.shape[2:]
    drawn = picture.truth.any(axis=0)
    places = np.argwhere(drawn if drawn.any() else np.ones(size, bool))
    middle = places[rng.integers(len(places))]
    half = [max(1, int(rng.uniform(0.04, 0.15) * side)) for side in size]
    rows, columns = (
        slice(max(0, int(place) - step), int(place) + step + 1)
        for place, step in zip(middle, half, strict=True)
    )
    frames[:, :, rows, columns] = frames.mean() if rng.random() < 0.5 else 0
    return replace(picture, frames=frames)


def _bend_gain(picture: Picture, rng: np.random.Generator) -> Picture:
    """Raise the brightness to a power."""
    power = _draw(rng, 1.5, 3) ** rng.choice([-1, 1])
    return replace(picture, frames=np.clip(picture.frames, 0, 1) ** np.float32(power))


def _coarsen(picture: Picture, rng: np.random.Generator) -> Picture:
    height, width = picture.frames.shape[2:]
    factor = rng.uniform(2.5, 6)
    size = max(4, int(width / factor)), max(4, int(height / factor))

    def change(plane: np.ndarray) -> np.ndarray:
        return cv2.resize(cv2.resize(plane, size, interpolation=cv2.INTER_AREA), (width, height))

    return per_plane(picture, change)


def _speckle(picture: Picture, rng: np.random.Generator) -> Picture:
    return speckle(picture, rng, strength=_draw(rng, 0.1, 0.8))


def _change_gain(picture: Picture, rng: np.random.Generator) -> Picture:
    return change_gain(picture, rng, factor=_draw(rng, 0.3, 2.5))


def _draw(rng: np.random.Generator, low: float, high: float) -> float:
    """A number whose logarithm is even between two."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


CHANCE_ARTEFACTS: Sequence[Artefact] = (
    Artefact("a shadow of 10 to 45 deg", _shade, ("US",)),
    Artefact("a side lost", lose_side, ("US",)),
    Artefact("noise of 0.02 to 0.25", _add_noise),
    Artefact("a blur", _blur),
    Artefact("rotated by 10 to 50 deg", _rotate),
    Artefact("a patch lost", _lose_patch),
    Artefact("brightness to a power", _bend_gain),
    Artefact("2.5 to 6 times coarser", _coarsen),
    Artefact("uneven gain", tilt_gain),
    Artefact("speckle of 0.1 to 0.8", _speckle),
    Artefact("gain of 0.3 to 2.5", _change_gain),
)
"""The artefacts of random strength."""
