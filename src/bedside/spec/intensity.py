"""Intensity steps, as data; none of them moves a pixel."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import ClassVar, Literal

from bedside.errors import SpecError
from bedside.spec.reading import UNLESS_EMPTY

CT_WINDOWS: Mapping[str, tuple[float, float]] = MappingProxyType(
    {
        "abdomen": (40.0, 400.0),
        "angiography": (300.0, 600.0),
        "bone": (400.0, 1800.0),
        "brain": (40.0, 80.0),
        "liver": (60.0, 160.0),
        "lung": (-600.0, 1500.0),
        "mediastinum": (50.0, 350.0),
        "soft_tissue": (50.0, 400.0),
        "spine": (50.0, 250.0),
        "stroke": (35.0, 35.0),
        "subdural": (75.0, 215.0),
    }
)
"""(level, width) in HU of the windows that radiologists read CT in; houses differ by some 10 HU."""


@dataclass(frozen=True, kw_only=True)
class ScalePercentile:
    """Map intensities linearly so that the given percentiles become 0 and 1, and clip.

    Only pixels above zero count, so the black around the image has no influence. Scans are
    mapped channel by channel, frames only with `per_channel`.

    Attributes:
        low: Percentile that becomes 0, in [0, 100).
        high: Percentile that becomes 1, in (low, 100].
        max_gain: Largest factor that intensities in [0, 1] are multiplied with; without
            meaning for scans, whose values have no range of their own.
        per_channel: Whether each channel of a frame is mapped by itself, for channels that are
            sequences of MR and not colours; one that is 0 throughout stays 0.
    """

    AXES: ClassVar[tuple[int, ...]] = (2, 3)
    step: Literal["scale_percentile"] = "scale_percentile"
    low: float = 0.0
    high: float = 99.5
    max_gain: float = 8.0
    per_channel: bool = field(default=False, metadata=UNLESS_EMPTY)

    def __post_init__(self) -> None:
        """Refuse percentiles that are out of order."""
        if not 0 <= self.low < self.high <= 100:
            raise SpecError(f"low {self.low} and high {self.high}: need 0 <= low < high <= 100.")


@dataclass(frozen=True, kw_only=True)
class ScaleMedian:
    """Multiply each channel of a frame so that tissue has one brightness, and clip to [0, 1].

    Tissue is what is bright, without the air around it. So the brain has nearly one brightness in
    all scans, however bright the fat of the scalp is, which decides a high percentile. A channel
    that is 0 throughout stays 0.

    Attributes:
        median: What the median of what is bright becomes, in (0, 1).
        floor: A pixel is bright that is above this part of the 99.5th percentile of all pixels
            above 0; in [0, 1).

    Source:
        Ours.
    """

    AXES: ClassVar[tuple[int, ...]] = (2,)
    step: Literal["scale_median"] = "scale_median"
    median: float = 0.35
    floor: float = 0.1

    def __post_init__(self) -> None:
        """Refuse numbers out of range."""
        if not 0 < self.median < 1 or not 0 <= self.floor < 1:
            raise SpecError(
                f"median {self.median} and floor {self.floor}: need 0 < median < 1 and "
                "0 <= floor < 1."
            )


@dataclass(frozen=True, kw_only=True)
class WindowLevel:
    """Map a window of intensities to [0, 1] and clip, as a display does.

    Of frames it reads the values as they are stored, so it must be their first step.

    Attributes:
        level: Its middle, in HU for CT.
        width: Its width, above 0.
    """

    AXES: ClassVar[tuple[int, ...]] = (2, 3)
    step: Literal["window_level"] = "window_level"
    level: float
    width: float

    def __post_init__(self) -> None:
        """Refuse a window without width."""
        if self.width <= 0:
            raise SpecError(f"width is {self.width}; expected above 0.")


@dataclass(frozen=True, kw_only=True)
class WindowPreset:
    """Map one of the usual windows of CT to [0, 1] and clip; otherwise as `WindowLevel`.

    Attributes:
        preset: Name of the window; see `CT_WINDOWS`.
    """

    AXES: ClassVar[tuple[int, ...]] = (2, 3)
    step: Literal["window_preset"] = "window_preset"
    preset: Literal[
        "abdomen", "angiography", "bone", "brain", "liver", "lung", "mediastinum", "soft_tissue",
        "spine", "stroke", "subdural",
    ]  # fmt: skip

    @property
    def level(self) -> float:
        """Its middle in HU."""
        return CT_WINDOWS[self.preset][0]

    @property
    def width(self) -> float:
        """Its width in HU."""
        return CT_WINDOWS[self.preset][1]


@dataclass(frozen=True, kw_only=True)
class ScaleRange:
    """Map intensities linearly to [0, 1] or to [-1, 1].

    Attributes:
        low: What the smallest value becomes: 0 or -1.
        source: What counts as smallest and largest: "observed" for what is in the frames
            looked at, or in each channel of a scan; "nominal" for 0 and 255 in frames of 8
            bits, and 0 and 1 after a step that gives [0, 1].
    """

    AXES: ClassVar[tuple[int, ...]] = (2, 3)
    step: Literal["scale_range"] = "scale_range"
    low: Literal[-1, 0] = 0
    source: Literal["observed", "nominal"] = "observed"


@dataclass(frozen=True, kw_only=True)
class ZScore:
    """Subtract the mean and divide by the standard deviation; for scans, channel by channel.

    Attributes:
        nonzero: Whether only values other than 0 count; what is 0 then stays 0.
    """

    AXES: ClassVar[tuple[int, ...]] = (2, 3)
    step: Literal["z_score"] = "z_score"
    nonzero: bool = False


@dataclass(frozen=True, kw_only=True)
class Clahe:
    """Contrast-limited adaptive histogram equalization of a frame; its range is kept.

    Attributes:
        clip: Most that a bin of a histogram may hold, in multiples of what it would hold if
            all were equal; at least 1.
        tiles: Parts along each axis, at least 1.

    Source:
        Zuiderveld 1994, Graphics Gems IV, "Contrast limited adaptive histogram equalization".
    """

    AXES: ClassVar[tuple[int, ...]] = (2,)
    step: Literal["clahe"] = "clahe"
    clip: float = 2.0
    tiles: int = 8

    def __post_init__(self) -> None:
        """Refuse a limit or a number of tiles without meaning."""
        if self.clip < 1 or self.tiles < 1:
            raise SpecError(f"clip is {self.clip} and tiles {self.tiles}; expected at least 1.")


@dataclass(frozen=True, kw_only=True)
class NonLocalMeans:
    """Non-local means: average pixels with similar surroundings.

    Slow: some 10 ms for a frame of 256 x 256.

    Attributes:
        strength: Difference of patches that is taken for noise, as a part of the image's
            range, in (0, 1].
        patch_px: Side of a patch; odd.
        search_px: Side of the area that is searched; odd.

    Source:
        Buades, Coll and Morel 2005, doi:10.1109/CVPR.2005.38.
    """

    AXES: ClassVar[tuple[int, ...]] = (2,)
    step: Literal["non_local_means"] = "non_local_means"
    strength: float = 0.03
    patch_px: int = 5
    search_px: int = 15

    def __post_init__(self) -> None:
        """Refuse sizes without a middle."""
        if not 0 < self.strength <= 1:
            raise SpecError(f"strength is {self.strength}; expected above 0 and at most 1.")
        for name in ("patch_px", "search_px"):
            value = getattr(self, name)
            if value < 1 or value % 2 == 0:
                raise SpecError(f"{name} is {value}; expected an odd number above 0.")


@dataclass(frozen=True, kw_only=True)
class FanGain:
    """Normalize the brightness of the ultrasound sector, ignoring the black around it.

    The robust mean over what is ever lit becomes `target`, along a smooth curve that keeps
    0 at 0 and white at 1, so that nothing saturates. Comes after `crop_fan`.

    Attributes:
        target: The mean to reach, in (0, 1).
        trim: Part of the pixels at either end that the mean leaves out, in [0, 0.5).
        floor: Luminance in [0, 255] that a pixel must pass once to count as lit.
        max_gain: Largest slope of the curve at 0, and the inverse of the smallest.

    Source:
        Ours.
    """

    AXES: ClassVar[tuple[int, ...]] = (2,)
    step: Literal["fan_gain"] = "fan_gain"
    target: float = 0.25
    trim: float = 0.1
    floor: float = 4.0
    max_gain: float = 8.0

    def __post_init__(self) -> None:
        """Refuse numbers out of range."""
        if not 0 < self.target < 1 or not 0 <= self.trim < 0.5 or self.max_gain < 1:
            raise SpecError(
                f"target {self.target}, trim {self.trim}, max_gain {self.max_gain}: need "
                "0 < target < 1, 0 <= trim < 0.5, and max_gain of at least 1."
            )


ToneStep = (
    ScalePercentile
    | ScaleMedian
    | WindowLevel
    | WindowPreset
    | ScaleRange
    | ZScore
    | Clahe
    | NonLocalMeans
    | FanGain
)
