"""The steps of the pipeline as data: what is done, in which order, with which numbers."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from bedside.errors import SpecError


@dataclass(frozen=True, kw_only=True)
class Grey:
    """Turn colour into luminance (ITU-R BT.601); a grey frame passes unchanged.

    Attributes:
        max_colour: Share of pixels with strong colour above which a frame is refused as
            a colour photograph, in [0, 1].
    """

    AXES: ClassVar[tuple[int, ...]] = (2,)
    step: Literal["grey"] = "grey"
    max_colour: float = 0.35


@dataclass(frozen=True, kw_only=True)
class Rgb:
    """Pass colour on as three channels, red, green and blue; grey is repeated in each."""

    AXES: ClassVar[tuple[int, ...]] = (2,)
    step: Literal["rgb"] = "rgb"


@dataclass(frozen=True, kw_only=True)
class CropFan:
    """Cut out the ultrasound sector, and blank what is drawn around it.

    Attributes:
        floor: Luminance in [0, 255] that a pixel must pass to count as insonified.
        margin: Border kept around the sector, as a fraction of its larger side.
    """

    AXES: ClassVar[tuple[int, ...]] = (2,)
    step: Literal["crop_fan"] = "crop_fan"
    floor: float = 4.0
    margin: float = 0.0


@dataclass(frozen=True, kw_only=True)
class CropCentre:
    """Keep the middle of an image: where a scanner's isocentre is, or a detector's finding.

    Nothing is padded: of an image that is smaller along an axis, all of that axis is kept.

    Attributes:
        size_px: (height, width) that is kept, in pixels of the source; at least 1 each.
    """

    size_px: tuple[int, int]
    AXES: ClassVar[tuple[int, ...]] = (2,)
    step: Literal["crop_centre"] = "crop_centre"

    def __post_init__(self) -> None:
        """Refuse a size that keeps nothing.

        Raises:
            SpecError: If a side is below 1.
        """
        if min(self.size_px) < 1:
            raise SpecError(f"size_px is {list(self.size_px)}; expected at least 1 each.")


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Scale to fit the network's input, always at one aspect ratio, centred on black.

    Attributes:
        stretch: Rows are stretched by this factor against columns, the same for every
            image, so that shapes stay comparable while wide images fill a square input.
    """

    AXES: ClassVar[tuple[int, ...]] = (2,)
    step: Literal["fit"] = "fit"
    stretch: float = 1.0


@dataclass(frozen=True, kw_only=True)
class ScalePercentile:
    """Map intensities linearly so that the given percentiles become 0 and 1, and clip.

    Only pixels above zero count, so that the black around the image has no say. In a scan
    each channel is mapped by itself.

    Attributes:
        low: Percentile that becomes 0, in [0, 100).
        high: Percentile that becomes 1, in (low, 100].
        max_gain: Largest factor that intensities in [0, 1] are multiplied with; without
            meaning for scans, whose values have no range of their own.
    """

    AXES: ClassVar[tuple[int, ...]] = (2, 3)
    step: Literal["scale_percentile"] = "scale_percentile"
    low: float = 0.0
    high: float = 99.5
    max_gain: float = 8.0

    def __post_init__(self) -> None:
        """Refuse percentiles that are out of order.

        Raises:
            SpecError: Unless 0 <= low < high <= 100.
        """
        if not 0 <= self.low < self.high <= 100:
            raise SpecError(f"low {self.low} and high {self.high}: need 0 <= low < high <= 100.")


@dataclass(frozen=True, kw_only=True)
class Orient:
    """Turn a scan's axes so that they run to the head, to the back and to the left."""

    AXES: ClassVar[tuple[int, ...]] = (3,)
    step: Literal["orient"] = "orient"


@dataclass(frozen=True, kw_only=True)
class Resample:
    """Resample a scan to one distance between voxels.

    Attributes:
        spacing_mm: Along (D, H, W) as the steps before leave them.
    """

    AXES: ClassVar[tuple[int, ...]] = (3,)
    step: Literal["resample"] = "resample"
    spacing_mm: tuple[float, float, float]

    def __post_init__(self) -> None:
        """Refuse distances that are none.

        Raises:
            SpecError: Unless all are above 0.
        """
        if min(self.spacing_mm) <= 0:
            raise SpecError(f"spacing_mm is {self.spacing_mm}; expected mm above 0.")


@dataclass(frozen=True, kw_only=True)
class WindowLevel:
    """Map a window of intensities to [0, 1] and clip, as a display does.

    Attributes:
        level: Its middle, in HU for CT.
        width: Its width, above 0.
    """

    AXES: ClassVar[tuple[int, ...]] = (3,)
    step: Literal["window_level"] = "window_level"
    level: float
    width: float

    def __post_init__(self) -> None:
        """Refuse a window without width.

        Raises:
            SpecError: Unless it is above 0.
        """
        if self.width <= 0:
            raise SpecError(f"width is {self.width}; expected above 0.")


PreprocessStep = (
    Grey | Rgb | CropFan | CropCentre | Fit | ScalePercentile | Orient | Resample | WindowLevel
)


@dataclass(frozen=True, kw_only=True)
class KeepLargest:
    """Keep the largest connected component of each label named; corners connect.

    Attributes:
        labels: Label values; every label if empty.
    """

    AXES: ClassVar[tuple[int, ...]] = (2, 3)
    step: Literal["keep_largest"] = "keep_largest"
    labels: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class FillHoles:
    """Fill background enclosed by one label with that label.

    Attributes:
        labels: Label values; every label if empty.
    """

    AXES: ClassVar[tuple[int, ...]] = (2, 3)
    step: Literal["fill_holes"] = "fill_holes"
    labels: tuple[int, ...] = ()


PostprocessStep = KeepLargest | FillHoles
