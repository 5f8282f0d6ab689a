"""Preprocessing steps, as data."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

from bedside.errors import SpecError
from bedside.spec.intensity import (
    Clahe,
    FanGain,
    NonLocalMeans,
    ScaleMedian,
    ScalePercentile,
    ToneStep,
    WindowLevel,
    WindowPreset,
)
from bedside.spec.reading import UNLESS_EMPTY


@dataclass(frozen=True, kw_only=True)
class Grey:
    """Convert colour to luminance (ITU-R BT.601); grey frames are unchanged.

    Attributes:
        max_colour: Share of pixels with strong colour above which a frame is refused as
            a colour photograph, in [0, 1].
    """

    AXES: ClassVar[tuple[int, ...]] = (2,)
    step: Literal["grey"] = "grey"
    max_colour: float = 0.35


@dataclass(frozen=True, kw_only=True)
class Rgb:
    """Three channels, red, green and blue; grey is repeated."""

    AXES: ClassVar[tuple[int, ...]] = (2,)
    step: Literal["rgb"] = "rgb"


@dataclass(frozen=True, kw_only=True)
class CropFan:
    """Crop to the ultrasound sector and blank everything outside it.

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
    """Crop to the centre of an image.

    Nothing is padded: of an image that is smaller along an axis, all of that axis is kept.

    Attributes:
        size_px: (height, width) that is kept, in pixels of the source; at least 1 each.
        share: Side of the square that is kept, as a part of the image's shorter side, in
            place of `size_px`: it does not depend on the size of pixels.
    """

    AXES: ClassVar[tuple[int, ...]] = (2,)
    step: Literal["crop_centre"] = "crop_centre"
    size_px: tuple[int, int] | None = field(default=None, metadata=UNLESS_EMPTY)
    share: float | None = field(default=None, metadata=UNLESS_EMPTY)

    def __post_init__(self) -> None:
        """Refuse a size that keeps nothing, and two sizes or none."""
        if (self.size_px is None) == (self.share is None):
            raise SpecError("crop_centre has size_px or share; expected one of them.")
        if self.size_px is not None and min(self.size_px) < 1:
            raise SpecError(f"size_px is {list(self.size_px)}; expected at least 1 each.")
        if self.share is not None and not 0 < self.share <= 1:
            raise SpecError(f"share is {self.share}; expected above 0 and at most 1.")

    def find_size(self, height: int, width: int) -> tuple[int, int]:
        """Return what is kept of an image, (height, width) in pixels, at least 1 each.

        Args:
            height: Rows of the image.
            width: Its columns.
        """
        if self.size_px is not None:
            return min(self.size_px[0], height), min(self.size_px[1], width)
        # Half a pixel is rounded up, as in any language.
        side = max(1, int((self.share or 1.0) * min(height, width) + 0.5))
        return side, side


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Scale into the network's input, keeping the aspect ratio, centred on black.

    Where pixels are known not to be square, that is the ratio in mm.

    Attributes:
        stretch: Rows are stretched by this factor against columns, the same for every
            image, so that shapes stay comparable while wide images fill a square input.
    """

    AXES: ClassVar[tuple[int, ...]] = (2,)
    step: Literal["fit"] = "fit"
    stretch: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Orient:
    """Reorder and reverse the axes of a scan to run to the head, the back and the left."""

    AXES: ClassVar[tuple[int, ...]] = (3,)
    step: Literal["orient"] = "orient"


@dataclass(frozen=True, kw_only=True)
class Resample:
    """Resample a scan to a given spacing, or to a given number of voxels.

    Attributes:
        spacing_mm: Along (D, H, W) as the steps before leave them.
        size_vox: Voxels along the same axes, in place of `spacing_mm`: for scans of which the
            spacing is unknown and the field of view alike. 0 leaves an axis as it is.
    """

    AXES: ClassVar[tuple[int, ...]] = (3,)
    step: Literal["resample"] = "resample"
    spacing_mm: tuple[float, float, float] | None = field(default=None, metadata=UNLESS_EMPTY)
    size_vox: tuple[int, int, int] | None = field(default=None, metadata=UNLESS_EMPTY)

    def __post_init__(self) -> None:
        """Refuse distances and sizes that are none, and both or neither."""
        if (self.spacing_mm is None) == (self.size_vox is None):
            raise SpecError("resample has spacing_mm or size_vox; expected one of them.")
        if self.spacing_mm is not None and min(self.spacing_mm) <= 0:
            raise SpecError(f"spacing_mm is {self.spacing_mm}; expected mm above 0.")
        if self.size_vox is not None and min(self.size_vox) < 0:
            raise SpecError(f"size_vox is {self.size_vox}; expected voxels, or 0 to keep an axis.")


@dataclass(frozen=True, kw_only=True)
class CropBody:
    """Crop to the box around the largest bright component: the patient without table and air.

    Of a scan it must be the first step. Labels outside the box are background.

    Attributes:
        threshold: Value that the body passes, in HU for CT, in [0, 255] for frames of 8 bits;
            by default it is found from the image (Otsu).
        margin: Border kept around the body, as a fraction of its larger side, at least 0.

    Source:
        The threshold is Otsu's, 1979, doi:10.1109/TSMC.1979.4310076.
    """

    AXES: ClassVar[tuple[int, ...]] = (2, 3)
    step: Literal["crop_body"] = "crop_body"
    threshold: float | None = None
    margin: float = 0.02

    def __post_init__(self) -> None:
        """Refuse to cut into the body."""
        if self.margin < 0:
            raise SpecError(f"margin is {self.margin}; expected at least 0.")


PreprocessStep = Grey | Rgb | CropFan | CropCentre | CropBody | Fit | Orient | Resample | ToneStep


def check_order(steps: Sequence[PreprocessStep], spatial_dims: int) -> None:
    """Refuse an order in which a step cannot work.

    Frames begin as 8 bits. Some steps need just that, and some leave the range [0, 1].

    Args:
        steps: In their order.
        spatial_dims: Of the network.

    Raises:
        SpecError: If a step must be the first, or needs 8 bits or [0, 1] and comes too late.
    """
    firsts = {2: (WindowLevel, WindowPreset), 3: (CropBody,)}[spatial_dims]
    for step in steps[1:]:
        if isinstance(step, firsts):
            raise SpecError(f"{step.step} reads values as they are stored; make it the first step.")
    if spatial_dims == 3:
        return
    left = ""
    for step in steps:
        if isinstance(step, CropFan | ScalePercentile | ScaleMedian | FanGain) and left:
            raise SpecError(f"{step.step} needs frames of 8 bits; move it in front of {left}.")
        if isinstance(step, Clahe | NonLocalMeans) and left in ("z_score", "scale_range"):
            raise SpecError(f"{step.step} needs values in [0, 1]; move it in front of {left}.")
        if isinstance(step, ToneStep) and not isinstance(step, Clahe | NonLocalMeans):
            left = step.step
