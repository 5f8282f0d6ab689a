"""The range of an image's values: brightness in 8 bits, or Hounsfield units.

Determined once for a sequence, so that it does not flicker. A certain range is scaled with a
warning; an uncertain one is refused, since its mask would be empty or wrong.
"""

from collections.abc import Callable, Sequence

import numpy as np

from bedside.errors import FormatError

Image = np.ndarray
Stage = Callable[[Image], Image]

MAX_BROKEN_SHARE = 0.001
"""Part of a frame that may be NaN or infinite and is set to zero; more is refused."""

RELATIVE = ("MR", "PT", "NM")
"""Kinds of images whose values have no unit, so that their own range is as good as any."""

# Resampling overshoots the ends of a range by a little; so may a few values.
_OVERSHOOT = 0.02
_FEW = 0.01
# No image in 8 bits is as dark as this, and no fractions are brightness.
_DARKEST = 16
_NARROWEST_HU = 20
_FULL_16_BITS = 2**14


def plan_bytes(
    sample: Sequence[np.ndarray], *, modality: str, force: bool = False
) -> tuple[Stage | None, list[str]]:
    """Plan the conversion of a sequence to 8 bits.

    Args:
        sample: Images of one type, at least one.
        modality: Of the bundle.
        force: Scale by the range that is there where nothing is certain.

    Returns:
        A function from an image to uint8 of the same shape, None if they are of 8 bits; and
        warnings.

    Raises:
        FormatError: If the values are not what the bundle takes, and it is not certain what
            they are.
    """
    if sample[0].dtype == np.uint8:
        return None, []
    values = np.concatenate([_finite(frame) for frame in sample])
    low, high = find_range(sample)
    offset, scale, warning = _find_scale(values, low, high, modality)
    if scale is None:
        text = (
            f"its values lie between {low:.4g} and {high:.4g}, and this bundle takes {modality} "
            "with brightness from 0 to 255"
        )
        if not force:
            raise FormatError(
                f"{text}. Map the values that it was made for to 0 to 255, or pass --force to map "
                "all of them."
            )
        offset, scale = low, 255 / (high - low or 1.0)
        warning = f"{text}; they were mapped to it because that was forced"

    def to_bytes(image: Image) -> Image:
        if image.dtype.kind == "f":
            image = np.where(np.isfinite(image), image, offset)
        return np.clip(np.rint((image.astype(np.float64) - offset) * scale), 0, 255).astype(
            np.uint8
        )

    return to_bytes, [warning] if warning else []


def check_numbers(frame: np.ndarray) -> None:
    """Refuse a frame with more than a few NaN or infinite values.

    Raises:
        FormatError: If so.
    """
    if frame.dtype.kind != "f":
        return
    broken = 1.0 - float(np.isfinite(frame).mean())
    if broken > MAX_BROKEN_SHARE:
        raise FormatError(f"{100 * broken:.1f} % of the values of a frame are NaN or infinite.")


def find_range(sample: Sequence[np.ndarray]) -> tuple[float, float]:
    """The smallest and the largest finite value of some frames; 0 where there is none."""
    values = [part for frame in sample if (part := _finite(frame)).size]
    if not values:
        return 0.0, 0.0
    return float(min(part.min() for part in values)), float(max(part.max() for part in values))


def reaches_below_zero(values: np.ndarray) -> bool:
    """Whether more values lie below 0 than the overshoot of a filter explains."""
    low = float(values.min(initial=0))
    if low >= 0:
        return False
    spread = max(-low, float(values.max(initial=0)))
    return bool((values < -_OVERSHOOT * spread).mean() > _FEW)


def check_hounsfield(low: float, high: float, *, width: float) -> str | None:
    """Warn of values under a CT window that are hardly Hounsfield units.

    Args:
        low: The smallest value.
        high: The largest.
        width: Of the window; one as narrow as a few units is meant for other values.

    Returns:
        A warning; None where they may be HU.

    Raises:
        FormatError: If all of them lie in [-1, 1].
    """
    if width < _NARROWEST_HU or low == high:
        return None
    if low >= -1 - _OVERSHOOT and high <= 1 + _OVERSHOOT:
        raise FormatError(
            f"its values lie between {low:.4g} and {high:.4g}, and this bundle takes Hounsfield "
            "units, such as -1000 for air. Give it the CT as it was before its values were scaled."
        )
    if low < 0:
        return None
    return (
        f"no value is below 0 (they go from {low:.4g} to {high:.4g}), and this bundle takes "
        "Hounsfield units, where air is -1000: they may have been shifted or windowed"
    )


def _find_scale(
    values: np.ndarray, low: float, high: float, modality: str
) -> tuple[float, float | None, str | None]:
    """Offset and factor to 8 bits, and a warning; the factor is None where it is unknown."""
    has_negatives = reaches_below_zero(values)
    if values.dtype.kind == "f" and 0 < high <= 1 + _OVERSHOOT:
        if not has_negatives:
            return 0.0, 255.0, _describe_scaled("0 and 1")
        if -1 - _OVERSHOOT <= low <= -0.5:
            return -1.0, 127.5, _describe_scaled("-1 and 1")
    if modality in RELATIVE:
        return _find_relative_scale(values, low, high)
    if has_negatives or (modality == "CT" and high > 255):
        return 0.0, None, None
    if high > 255:
        # 16 bits that are used are a range of their own.
        used = values.dtype.newbyteorder("=") == np.uint16 and high >= _FULL_16_BITS
        return 0.0, 1 / 257 if used else 255 / high, None
    if values.dtype.kind == "f" and 0 < high < _DARKEST and (values % 1).any():
        return 0.0, None, None
    return 0.0, 1.0, None


def _find_relative_scale(
    values: np.ndarray, low: float, high: float
) -> tuple[float, float | None, str | None]:
    """The same for values without a unit."""
    has_negatives = reaches_below_zero(values)
    offset = low if has_negatives else 0.0
    span = high - offset
    is_dark = values.dtype.kind == "f" and span < _DARKEST
    scale = 255 / span if span > 255 or (is_dark and span > 0) else 1.0
    if not has_negatives:
        return offset, scale, None
    return offset, scale, describe_shifted(low)


def describe_shifted(low: float) -> str:
    """Warning that an image without a unit was shifted to begin at 0."""
    return f"values go down to {low:.4g}; the smallest was taken for black"


def _describe_scaled(ends: str) -> str:
    return f"values lie between {ends}; they were taken for parts of full brightness"


def _finite(frame: np.ndarray) -> np.ndarray:
    values = frame.ravel()
    return values[np.isfinite(values)] if values.dtype.kind == "f" else values
