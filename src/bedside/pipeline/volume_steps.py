"""Steps on the tone of scans: each works on the array of a draft, (C, D, H, W)."""

import itertools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from bedside.errors import FormatError
from bedside.pipeline.value_range import check_hounsfield
from bedside.spec import Clahe, NonLocalMeans, ScaleRange, WindowLevel, WindowPreset, ZScore

if TYPE_CHECKING:
    from bedside.pipeline.volumes import VolumeBuilder

_BINS = 256
# Resampling overshoots the ends of a range by a little.
_TOLERANCE = 0.02


def _scale_range(step: ScaleRange, builder: "VolumeBuilder") -> None:
    for channel in _in_float(builder):
        low, high = (
            _nominal(channel, builder) if step.source == "nominal" else _span(channel, builder)
        )
        channel -= np.float32(low)
        channel *= np.float32((1 - step.low) / (high - low))
        channel += np.float32(step.low)
        np.clip(channel, step.low, 1, out=channel)


def _nominal(channel: np.ndarray, builder: "VolumeBuilder") -> tuple[float, float]:
    """Find whether values are parts of 1 or 8 bits.

    Raises:
        FormatError: If they are neither.
    """
    low, high = float(channel.min()), float(channel.max())
    if high <= 1 + _TOLERANCE and low >= -_TOLERANCE:
        return 0.0, 1.0
    if not (low >= -_TOLERANCE and high <= _BINS - 1):
        raise FormatError(
            f"its values lie between {low:.4g} and {high:.4g}, and this bundle takes values from 0 "
            "to 1, or to 255. Map the values that it was made for to that."
        )
    builder.warnings.append(f"values go up to {high:.4g}; they were taken for 8 bits, 0 to 255")
    return 0.0, float(_BINS - 1)


def _z_score(step: ZScore, builder: "VolumeBuilder") -> None:
    for channel in _in_float(builder):
        counted = channel[channel != 0] if step.nonzero else channel
        spread = float(counted.std(dtype=np.float64)) if counted.size else 0.0
        if not spread:
            builder.warnings.append("a channel of the scan is all of one value.")
            channel.fill(0)
            continue
        outside = channel == 0 if step.nonzero else None
        channel -= np.float32(counted.mean(dtype=np.float64))
        channel *= np.float32(1 / spread)
        if outside is not None:
            channel[outside] = 0


def _clahe(step: Clahe, builder: "VolumeBuilder") -> None:
    for channel in _in_float(builder):
        low, high = _span(channel, builder)
        channel -= np.float32(low)
        channel *= np.float32(1 / (high - low))
        channel[...] = equalise_adaptively(channel, clip=step.clip, tiles=step.tiles)


def _non_local_means(step: NonLocalMeans, builder: "VolumeBuilder") -> None:
    for channel in _in_float(builder):
        low, high = _span(channel, builder)
        levels = np.clip((channel - low) * np.float32(255 / (high - low)) + 0.5, 0, 255)
        reach = step.slices // 2
        padded = list(
            np.pad(levels.astype(np.uint8), ((reach, reach), (0, 0), (0, 0)), "symmetric")
        )
        for index, plane in enumerate(channel):
            smooth = cv2.fastNlMeansDenoisingMulti(
                padded, index + reach, step.slices, None, 255 * step.strength,
                step.patch_px, step.search_px,
            )  # fmt: skip
            plane[...] = smooth
        channel *= np.float32((high - low) / 255)
        channel += np.float32(low)


def _window(step: WindowLevel | WindowPreset, builder: "VolumeBuilder") -> None:
    """Map a window of intensities to [0, 1] and clip, in place."""
    array = _in_float(builder)
    if builder.modality == "CT":
        doubt = check_hounsfield(float(array.min()), float(array.max()), width=step.width)
        builder.warnings += [doubt] if doubt else []
    array -= np.float32(step.level - step.width / 2)
    array /= np.float32(step.width)
    np.clip(array, 0, 1, out=array)


def _in_float(builder: "VolumeBuilder") -> np.ndarray:
    """Make a draft's array one of its own in float32, to be worked on in place."""
    builder.array = builder.own()
    return builder.array


def _span(channel: np.ndarray, builder: "VolumeBuilder") -> tuple[float, float]:
    """Find the smallest and the largest value, which differ."""
    low, high = float(channel.min()), float(channel.max())
    if low == high:
        builder.warnings.append("a channel of the scan is all of one value.")
        return low, low + 1
    return low, high


def equalise_adaptively(volume: np.ndarray, *, clip: float, tiles: int) -> np.ndarray:
    """Equalise the histogram of each part of a volume, between whose centres is interpolated.

    Args:
        volume: (D, H, W) float32 in [0, 1].
        clip: See `bedside.spec.Clahe`.
        tiles: Parts along each axis; fewer along an axis that has fewer than two voxels for
            each.

    Returns:
        (D, H, W) float32 in [0, 1].

    Source:
        Zuiderveld 1994; here in three axes.
    """
    levels = (volume * np.float32(_BINS - 1) + np.float32(0.5)).astype(np.uint8)
    counts = [max(1, min(tiles, size // 2)) for size in volume.shape]
    edges = [
        np.linspace(0, size, count + 1).round().astype(int)
        for size, count in zip(volume.shape, counts, strict=True)
    ]
    curves = np.empty((*counts, _BINS), np.float32)
    for tile in itertools.product(*map(range, counts)):
        part = tuple(slice(edge[i], edge[i + 1]) for edge, i in zip(edges, tile, strict=True))
        curves[tile] = _curve(levels[part], clip)
    below, share = zip(
        *(_between(edge, size) for edge, size in zip(edges, volume.shape, strict=True)),
        strict=True,
    )
    above = [np.minimum(low + 1, count - 1) for low, count in zip(below, counts, strict=True)]
    equalised = np.empty(volume.shape, np.float32)
    flat = curves.reshape(counts[0], -1)
    for index, plane in enumerate(levels):
        # First along the slices, for all tiles of a slice at once; then within it.
        low, high, part = below[0][index], above[0][index], share[0][index]
        both = ((1 - part) * flat[low] + part * flat[high]).astype(np.float32)
        total = np.zeros(plane.shape, np.float32)
        for row, column in itertools.product((0, 1), (0, 1)):
            rows = (below[1], above[1])[row][:, None]
            columns = (below[2], above[2])[column]
            weight = (1 - share[1], share[1])[row][:, None] * (1 - share[2], share[2])[column]
            total += weight * both.take((rows * counts[2] + columns) * _BINS + plane)
        equalised[index] = total
    return equalised


def _curve(levels: np.ndarray, clip: float) -> np.ndarray:
    """Make the curve of one tile: the sum of its histogram, which is cut and evened out."""
    counts = np.bincount(levels.ravel(), minlength=_BINS).astype(np.float64)
    limit = max(1.0, clip * levels.size / _BINS)
    excess = np.maximum(counts - limit, 0).sum()
    summed = np.cumsum(np.minimum(counts, limit) + excess / _BINS)
    curve: np.ndarray = (summed / levels.size).astype(np.float32)
    return curve


def _between(edges: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Find, for each voxel of an axis, the tile whose centre is before it, and how far it is."""
    centres = (edges[:-1] + edges[1:] - 1) / 2
    places = np.interp(np.arange(size), centres, np.arange(len(centres)))
    below = np.minimum(places.astype(int), len(centres) - 1)
    return below, (places - below).astype(np.float32)


INTENSITY_STEPS: Mapping[type, "Callable[[Any, VolumeBuilder], None]"] = {
    WindowLevel: _window,
    WindowPreset: _window,
    ScaleRange: _scale_range,
    ZScore: _z_score,
    Clahe: _clahe,
    NonLocalMeans: _non_local_means,
}
