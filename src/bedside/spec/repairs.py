"""Postprocessing of logits and labels, as data."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from bedside.errors import SpecError


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
class KeepLargestInScan:
    """Keep the largest connected component of each label over all slices of a scan.

    For networks that segment a scan slice by slice. Frames that are no slices stay as they are.

    Attributes:
        labels: Label values; every label if empty.
    """

    AXES: ClassVar[tuple[int, ...]] = (2,)
    step: Literal["keep_largest_in_scan"] = "keep_largest_in_scan"
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


@dataclass(frozen=True, kw_only=True)
class DropSmall:
    """Drop connected components below a size; corners connect. Exactly one size is given.

    Attributes:
        min_px: Smallest size that stays, in pixels or voxels.
        min_mm2: The same in mm2, for 2D networks.
        min_ml: The same in ml, for 3D networks.
        labels: Label values; every label if empty.
    """

    AXES: ClassVar[tuple[int, ...]] = (2, 3)
    step: Literal["drop_small"] = "drop_small"
    min_px: int | None = None
    min_mm2: float | None = None
    min_ml: float | None = None
    labels: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Refuse no size, or several."""
        sizes = {"min_px": self.min_px, "min_mm2": self.min_mm2, "min_ml": self.min_ml}
        _check_one(self.step, sizes)


@dataclass(frozen=True, kw_only=True)
class _Ball:
    """A step with a ball of some size.

    Attributes:
        radius_px: Radius in pixels or voxels; this or `radius_mm`.
        radius_mm: Radius in mm, along each axis by its own spacing.
        labels: Label values; every label if empty.
    """

    AXES: ClassVar[tuple[int, ...]] = (2, 3)
    step: str
    radius_px: float | None = None
    radius_mm: float | None = None
    labels: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        """Refuse no radius, or two."""
        _check_one(self.step, {"radius_px": self.radius_px, "radius_mm": self.radius_mm})


@dataclass(frozen=True, kw_only=True)
class Opening(_Ball):
    """Morphological opening with a ball: removes bridges, spikes, specks."""

    step: Literal["opening"] = "opening"


@dataclass(frozen=True, kw_only=True)
class Closing(_Ball):
    """Morphological closing with a ball: fills clefts, gaps, pits.

    No pixel of another label is taken.
    """

    step: Literal["closing"] = "closing"


@dataclass(frozen=True, kw_only=True)
class FitEllipse:
    """Make each label named the ellipse along its outline, for what is one, such as a head.

    Points of the outline that lie far from the ellipse of the others are left out of the fit, so
    that a dent or a bulge does not move it. Only background is filled. A label that overlaps
    little with its ellipse stays as it is.

    Attributes:
        labels: Label values; every label if empty.
    """

    AXES: ClassVar[tuple[int, ...]] = (2,)
    step: Literal["fit_ellipse"] = "fit_ellipse"
    labels: tuple[int, ...] = ()


PostprocessStep = (
    KeepLargest | KeepLargestInScan | FillHoles | DropSmall | Opening | Closing | FitEllipse
)


@dataclass(frozen=True, kw_only=True)
class LocalCrf:
    """Local CRF: neighbours vote for the class of a pixel, weighted by similarity.

    Acts on logits, at their grid. Few rounds over the 3 x 3 neighbours at growing distances:
    made for 30 frames a second.

    Attributes:
        dilations: Distance to the neighbours in logits, one round each.
        sigma: Difference of intensity that counts as alike, as a part of the image's range.
        weight: Strength of the vote, in logits.

    Source:
        Affinities and growing distances are PAMR's, Araslanov and Roth 2020,
        doi:10.1109/CVPR42600.2020.00431; the network's own logits keep their weight as in a CRF.
    """

    AXES: ClassVar[tuple[int, ...]] = (2,)
    step: Literal["local_crf"] = "local_crf"
    dilations: tuple[int, ...] = (1, 2, 4)
    sigma: float = 0.1
    weight: float = 2.0

    def __post_init__(self) -> None:
        """Refuse numbers out of range."""
        if not self.dilations or min(self.dilations) < 1:
            raise SpecError(f"dilations is {list(self.dilations)}; expected some, at least 1 each.")
        _check_positive(self.step, {"sigma": self.sigma, "weight": self.weight})


RefineStep = LocalCrf


def check_units(step: PostprocessStep, spatial_dims: int) -> None:
    """Refuse a size that has no meaning for a network's axes.

    Raises:
        SpecError: If it is a volume for two axes, or an area for three.
    """
    if isinstance(step, DropSmall):
        wrong = {2: "min_ml", 3: "min_mm2"}[spatial_dims]
        if getattr(step, wrong) is not None:
            right = {2: "min_mm2", 3: "min_ml"}[spatial_dims]
            raise SpecError(
                f"drop_small: {wrong} has no meaning in {spatial_dims} axes; use {right}."
            )


def _check_one(step: str, choices: dict[str, float | None]) -> None:
    """Refuse anything but one number above 0."""
    given = {name: value for name, value in choices.items() if value is not None}
    if len(given) != 1:
        raise SpecError(f"{step}: give just one of {', '.join(choices)}, not {len(given)}.")
    _check_positive(step, given)


def _check_positive(step: str, values: dict[str, float]) -> None:
    for name, value in values.items():
        if value <= 0:
            raise SpecError(f"{step}: {name} is {value}; expected above 0.")
