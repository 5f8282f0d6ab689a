"""Frame steps on intensity, planned once for a sequence so that it does not flicker."""

from collections.abc import Callable, Mapping
from typing import Any

import cv2
import numpy as np

from bedside.pipeline.frames.builder import BLACK, FramePlanBuilder, Image, Stage
from bedside.pipeline.value_range import check_hounsfield, find_range
from bedside.spec import (
    Clahe,
    FanGain,
    NonLocalMeans,
    ScaleMedian,
    ScalePercentile,
    ScaleRange,
    WindowLevel,
    WindowPreset,
    ZScore,
)

_BISECTIONS = 40
_PLAIN = np.arange(256, dtype=np.float32) / np.float32(255)


def _plan_window(step: WindowLevel | WindowPreset, builder: FramePlanBuilder) -> None:
    """Map stored values through a window; NaN becomes its lower end."""
    low, width = step.level - step.width / 2, step.width
    if builder.input.modality == "CT":
        doubt = check_hounsfield(*find_range(builder.sample), width=width)
        builder.warnings += [doubt] if doubt else []

    def window(image: Image) -> Image:
        values = image.astype(np.float32)
        values -= np.float32(low)
        values *= np.float32(1 / width)
        if image.dtype.kind == "f":
            np.nan_to_num(values, copy=False, nan=0.0)
        return np.clip(values, 0, 1, out=values)

    builder.add(window, pointwise=True)


def _plan_scale_range(step: ScaleRange, builder: FramePlanBuilder) -> None:
    if step.source == "nominal":
        low, high = 0.0, 255.0 if builder.sample[0].dtype == np.uint8 else 1.0
    else:
        low = min(float(image.min()) for image in builder.sample)
        high = max(float(image.max()) for image in builder.sample)
    if high <= low:
        builder.warnings.append("the images looked at are all of one brightness.")
        high = low + 1
    span = (1 - step.low) / (high - low)
    builder.add(_linear(span, step.low - low * span, limits=(step.low, 1.0)))


def _plan_z_score(step: ZScore, builder: FramePlanBuilder) -> None:
    values = np.concatenate([image.ravel() for image in builder.sample]).astype(np.float64)
    if step.nonzero:
        values = values[values != 0]
    spread = float(values.std()) if values.size else 0.0
    if not spread:
        builder.warnings.append("the images looked at are all of one brightness.")
        builder.add(lambda image: np.zeros(image.shape, np.float32))
        return
    scaled = _linear(1 / spread, -float(values.mean()) / spread)
    builder.add((lambda image: scaled(image) * (image != 0)) if step.nonzero else scaled)


def _linear(factor: float, offset: float, limits: tuple[float, float] | None = None) -> Stage:
    """Function to factor * image + offset in float32, by a look-up table for 8 bits."""
    table = np.arange(256, dtype=np.float64) * factor + offset
    table = (table if limits is None else np.clip(table, *limits)).astype(np.float32)

    def scale(image: Image) -> Image:
        if image.dtype == np.uint8:
            return cv2.LUT(image, table)
        scaled: Image = image * np.float32(factor) + np.float32(offset)
        return scaled if limits is None else np.clip(scaled, *limits)

    return scale


def _plan_clahe(step: Clahe, builder: FramePlanBuilder) -> None:
    def equalise(image: Image) -> Image:
        # One per call: it keeps buffers, and several threads may share a plan.
        equaliser = cv2.createCLAHE(clipLimit=step.clip, tileGridSize=(step.tiles, step.tiles))
        if image.ndim == 3:
            # Colour keeps its hue: only the lightness is equalised.
            lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
            lab[..., 0] = equaliser.apply(np.ascontiguousarray(lab[..., 0]))
            return cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)
        return equaliser.apply(image)

    builder.add(_in_bytes(equalise))


def _plan_non_local_means(step: NonLocalMeans, builder: FramePlanBuilder) -> None:
    strength = 255 * step.strength

    def smooth(image: Image) -> Image:
        if image.ndim == 3:
            return cv2.fastNlMeansDenoisingColored(
                image, None, strength, strength, step.patch_px, step.search_px
            )
        return cv2.fastNlMeansDenoising(image, None, strength, step.patch_px, step.search_px)

    builder.add(_in_bytes(smooth))


def _in_bytes(work: Stage) -> Stage:
    """Apply an 8-bit function to images in [0, 1] too."""

    def stage(image: Image) -> Image:
        if image.dtype == np.uint8:
            return work(image)
        in_bytes = cv2.convertScaleAbs(image, alpha=255.0)
        scaled: Image = work(in_bytes).astype(np.float32) * np.float32(1 / 255)
        return scaled

    return stage


def _plan_fan_gain(step: FanGain, builder: FramePlanBuilder) -> None:
    """Fit the curve y = g x / (1 + (g - 1) x) whose robust mean is the target."""
    grey = [image if image.ndim == 2 else image.max(axis=-1) for image in builder.sample]
    lit = np.max(grey, axis=0) > step.floor
    counts = np.sum([np.bincount(image[lit], minlength=256) for image in grey], axis=0)
    kept = _trimmed(counts, step.trim)
    if not kept.any():
        builder.warnings.append(BLACK)
        builder.add(lambda image: image.astype(np.float32) / 255)
        return
    levels = np.arange(256) / 255

    def curve(log_gain: float) -> np.ndarray:
        gain = np.exp(log_gain)
        shown: np.ndarray = gain * levels / (1 + (gain - 1) * levels)
        return shown

    low, high = -np.log(step.max_gain), np.log(step.max_gain)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        too_dark = np.average(curve(middle), weights=kept) < step.target
        low, high = (middle, high) if too_dark else (low, middle)
    table = curve((low + high) / 2).astype(np.float32)
    builder.add(lambda image: cv2.LUT(image, table))


def _trimmed(counts: np.ndarray, trim: float) -> np.ndarray:
    """Histogram without a fraction of its counts at either end."""
    total = counts.sum()
    upto = np.clip(np.cumsum(counts), trim * total, (1 - trim) * total)
    kept: np.ndarray = np.diff(upto, prepend=trim * total)
    return kept


def _plan_scale_percentile(step: ScalePercentile, builder: FramePlanBuilder) -> None:
    def find_table(images: list[Image]) -> np.ndarray:
        return _find_percentile_table(step, _count_levels(images))

    _add_table(builder, find_table, per_channel=step.per_channel)


def _plan_scale_median(step: ScaleMedian, builder: FramePlanBuilder) -> None:
    def find_table(images: list[Image]) -> np.ndarray:
        return _find_median_table(step, _count_levels(images))

    _add_table(builder, find_table, per_channel=True)


def _add_table(
    builder: FramePlanBuilder, find_table: Callable[[list[Image]], np.ndarray], *, per_channel: bool
) -> None:
    """Add a map of 8 bits that is found from the sample, or from each channel of it.

    One for the whole sequence: a flicker of the gain would be seen as motion.
    """
    if not per_channel or builder.sample[0].ndim == 2:
        table = find_table(builder.sample)
    else:
        channels = range(builder.sample[0].shape[-1])
        tables = [
            find_table([image[..., channel] for image in builder.sample]) for channel in channels
        ]
        table = np.stack(tables, axis=-1)[None]
    if not any(image.any() for image in builder.sample):
        builder.warnings.append(BLACK)
    builder.add(lambda image: cv2.LUT(image, table))


def _count_levels(images: list[Image]) -> np.ndarray:
    """Pixels of each of the 256 levels but 0, over all images."""
    counts: np.ndarray = np.sum(
        [np.bincount(image.ravel(), minlength=256) for image in images], axis=0
    )
    counts[0] = 0
    return counts


def _find_median_table(step: ScaleMedian, counts: np.ndarray) -> np.ndarray:
    """Map of 8 bits to [0, 1] by the median of bright pixels; plain if there are none."""
    if not counts.any():
        return _PLAIN
    levels = np.arange(256)
    high = _find_rank(counts, 0.995)
    middle = _find_rank(np.where(levels > step.floor * high, counts, 0), 0.5)
    table: np.ndarray = np.clip(levels * (step.median / middle), 0, 1).astype(np.float32)
    return table


def _find_rank(counts: np.ndarray, share: float) -> int:
    """Smallest level up to which at least this share of pixels lies."""
    cumulative = np.cumsum(counts)
    return int(np.searchsorted(cumulative, share * cumulative[-1]))


def _find_percentile_table(step: ScalePercentile, counts: np.ndarray) -> np.ndarray:
    """Map of 8 bits to [0, 1] by the percentiles of some images; plain if they are black."""
    if not counts.any():
        return _PLAIN
    low, high = (_find_rank(counts, percent / 100) for percent in (step.low, step.high))
    span = max(high - low, 255 / step.max_gain)
    table: np.ndarray = np.clip((np.arange(256) - low) / span, 0, 1).astype(np.float32)
    return table


INTENSITY_PLANNERS: Mapping[type, Callable[[Any, FramePlanBuilder], None]] = {
    WindowLevel: _plan_window,
    WindowPreset: _plan_window,
    ScalePercentile: _plan_scale_percentile,
    ScaleMedian: _plan_scale_median,
    ScaleRange: _plan_scale_range,
    ZScore: _plan_z_score,
    Clahe: _plan_clahe,
    NonLocalMeans: _plan_non_local_means,
    FanGain: _plan_fan_gain,
}
