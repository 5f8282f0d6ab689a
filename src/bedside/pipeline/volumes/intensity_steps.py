"""Scan steps on intensity; each works on the array of a builder, (C, D, H, W)."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from bedside.errors import FormatError
from bedside.pipeline.value_range import (
    RELATIVE,
    check_hounsfield,
    describe_shifted,
    reaches_below_zero,
)
from bedside.pipeline.volumes.builder import VolumeBuilder
from bedside.spec import ScalePercentile, ScaleRange, WindowLevel, WindowPreset, ZScore

_WHITE = 255
# Resampling overshoots the ends of a range by a little.
_TOLERANCE = 0.02


def _scale_range(step: ScaleRange, builder: VolumeBuilder) -> None:
    for channel in _in_float(builder):
        low, high = (
            _nominal(channel, builder) if step.source == "nominal" else _span(channel, builder)
        )
        channel -= np.float32(low)
        channel *= np.float32((1 - step.low) / (high - low))
        channel += np.float32(step.low)
        np.clip(channel, step.low, 1, out=channel)


def _nominal(channel: np.ndarray, builder: VolumeBuilder) -> tuple[float, float]:
    """Nominal range of values: 0 to 1, or 8 bits.

    Raises:
        FormatError: If they are neither.
    """
    low, high = float(channel.min()), float(channel.max())
    if high <= 1 + _TOLERANCE and low >= -_TOLERANCE:
        return 0.0, 1.0
    if not (low >= -_TOLERANCE and high <= _WHITE):
        raise FormatError(
            f"its values lie between {low:.4g} and {high:.4g}, and this bundle takes values from 0 "
            "to 1, or to 255. Map the values that it was made for to that."
        )
    builder.warnings.append(f"values go up to {high:.4g}; they were taken for 8 bits, 0 to 255")
    return 0.0, float(_WHITE)


def _z_score(step: ZScore, builder: VolumeBuilder) -> None:
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


def _window(step: WindowLevel | WindowPreset, builder: VolumeBuilder) -> None:
    """Map a window of intensities to [0, 1] and clip, in place."""
    array = _in_float(builder)
    if builder.modality == "CT":
        doubt = check_hounsfield(float(array.min()), float(array.max()), width=step.width)
        builder.warnings += [doubt] if doubt else []
    array -= np.float32(step.level - step.width / 2)
    array /= np.float32(step.width)
    np.clip(array, 0, 1, out=array)


def _in_float(builder: VolumeBuilder) -> np.ndarray:
    """The builder's array as writable float32."""
    builder.array = builder.own()
    return builder.array


def _span(channel: np.ndarray, builder: VolumeBuilder) -> tuple[float, float]:
    """Smallest and largest value, made to differ."""
    low, high = float(channel.min()), float(channel.max())
    if low == high:
        builder.warnings.append("a channel of the scan is all of one value.")
        return low, low + 1
    return low, high


def _scale_percentile(step: ScalePercentile, builder: VolumeBuilder) -> None:
    for channel in _in_float(builder):
        if builder.modality in RELATIVE and reaches_below_zero(channel):
            low = float(channel.min())
            channel -= np.float32(low)
            builder.warnings.append(describe_shifted(low))
        counted = channel[channel > 0]
        if not counted.size:
            builder.warnings.append("a channel of the scan has no value above 0.")
            channel[:] = 0
            continue
        low, high = np.percentile(counted, (step.low, step.high))
        if not step.low:
            low = 0.0
        channel -= np.float32(low)
        channel /= np.float32(max(high - low, 1e-12))
        np.clip(channel, 0, 1, out=channel)


INTENSITY_STEPS: Mapping[type, Callable[[Any, VolumeBuilder], None]] = {
    WindowLevel: _window,
    WindowPreset: _window,
    ScalePercentile: _scale_percentile,
    ScaleRange: _scale_range,
    ZScore: _z_score,
}
