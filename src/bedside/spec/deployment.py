"""The specification of a deployment, stored in its bundle."""

from dataclasses import dataclass, field
from typing import Literal

from bedside.errors import SpecError
from bedside.spec.model import ModelSpec
from bedside.spec.priors import Prior, check_prior
from bedside.spec.reading import UNLESS_EMPTY
from bedside.spec.repairs import PostprocessStep, RefineStep, check_units
from bedside.spec.steps import PreprocessStep, check_order
from bedside.version import __version__

SCHEMA_VERSION = 2
"""Of what is written. Files of version 1 are read too; see `spec.former`."""

READABLE_VERSIONS = (1, SCHEMA_VERSION)


FILMED = ("US", "IVUS", "ES", "XC", "GM", "XA", "RF", "OP", "OPT")
"""Kinds of images whose frames mostly follow each other in time."""


@dataclass(frozen=True)
class Code:
    """A coded concept of DICOM.

    Attributes:
        value: Code value, such as "87878005".
        scheme: Coding scheme designator, such as "SCT".
        meaning: The concept in words.
    """

    value: str
    scheme: str
    meaning: str


@dataclass(frozen=True)
class Label:
    """One structure that the model draws.

    Attributes:
        value: Its number in label maps and its channel in the logits; at least 1.
        name: Short name, unique, such as "LV cavity".
        color: (red, green, blue), each 0-255.
        category: DICOM segmented property category.
        type: DICOM segmented property type.
    """

    value: int
    name: str
    color: tuple[int, int, int]
    category: Code
    type: Code


@dataclass(frozen=True)
class Region:
    """A union of labels that evaluation scores as well.

    Attributes:
        name: Short name, unique among labels and regions, such as "whole tumour".
        labels: Values of the labels that make it up.
    """

    name: str
    labels: tuple[int, ...]


@dataclass(frozen=True)
class InputSpec:
    """Input of the network.

    Attributes:
        modality: DICOM's word, such as "US".
        channels: Number of channels after preprocessing.
        size_px: (height, width) of the network's input, or (depth, height, width) of the
            window that it moves over a scan.
        view: What the image must show, in words.
        neighbours: Frames on each side that a 2D network sees beside its own, as
            channels: of a scan, the slices above and below. At the ends the last one is
            repeated.
        channel_names: Name of each channel, such as "flair", where they are images of their
            own; empty where they are colours or neighbours.
        optional_channels: Names of those that an image may lack, because the network was
            trained without them too; at least one channel must be there.
    """

    modality: str
    channels: int
    size_px: tuple[int, ...]
    view: str = ""
    neighbours: Literal[0, 1] = 0
    channel_names: tuple[str, ...] = field(default=(), metadata=UNLESS_EMPTY)
    optional_channels: tuple[str, ...] = field(default=(), metadata=UNLESS_EMPTY)

    def __post_init__(self) -> None:
        """Refuse names that do not name each channel once."""
        names = self.channel_names
        if names and (len(names) != self.channels or len(set(names)) != len(names)):
            raise SpecError(
                f"channel_names is {list(names)}; expected {self.channels} different names, one a "
                "channel."
            )
        if names and self.neighbours:
            raise SpecError("channel_names are for images on one grid, not for neighbours.")
        strange = [name for name in self.optional_channels if name not in names]
        if strange:
            raise SpecError(
                f"optional_channels has {', '.join(strange)}; expected some of {list(names)}."
            )


@dataclass(frozen=True)
class SlidingWindowSpec:
    """Sliding window over scans that are larger than the input of the network.

    Attributes:
        overlap: Part of a window that neighbours share at least, in [0, 1).
        blend: How logits of several windows are weighted: "gaussian" trusts the middle of
            a window more than its border, "constant" does not.
    """

    overlap: float = 0.5
    blend: Literal["gaussian", "constant"] = "gaussian"


@dataclass(frozen=True)
class MarkerCheck:
    """Check of the probe marker: a mirrored view is turned for the network.

    The network sees some frames as they are and mirrored, and is surer of its labels in the
    orientation that it was trained on. Its certainty is the mean over structures of the soft
    Dice of its probabilities with its own labels.

    Attributes:
        margin: Difference of certainty, in [0, 1), below which the side cannot be told; the
            view is then taken as it is, with a warning.
        scales: Sizes that each frame is looked at in, in (0, 1], within the network's input;
            certainty is averaged over them. Smaller ones make the judgement steadier.
    """

    margin: float = 0.002
    scales: tuple[float, ...] = (1.0, 0.85)

    def __post_init__(self) -> None:
        """Refuse a margin or scales that mean nothing."""
        if not 0 <= self.margin < 1:
            raise SpecError(f"margin is {self.margin}; expected at least 0 and below 1.")
        if not self.scales or not all(0 < scale <= 1 for scale in self.scales):
            raise SpecError(f"scales is {list(self.scales)}; expected some above 0, at most 1.")


@dataclass(frozen=True)
class DeploymentSpec:
    """Everything but the weights that turns an image into labels.

    Attributes:
        name: Name of the bundle, such as "camus-4ch".
        version: Version of the bundle.
        task: What it segments, in one line.
        input: What the network takes.
        labels: The structures, background left out.
        preprocess: Steps from decoded frame to tensor, in order.
        model: The network.
        postprocess: Steps from label map to label map on the source grid, in order.
        windows: How the network moves over scans; without meaning in 2D.
        regions: Unions of labels that evaluation scores too.
        refine: Steps on logits, with the image before them, before labels are made of them.
        priors: What is known of the anatomy, checked after `postprocess`, in order.
        marker: Check of the probe marker; None where both orientations are learned, or occur
            in no image.
    """

    name: str
    version: str
    task: str
    input: InputSpec
    labels: tuple[Label, ...]
    preprocess: tuple[PreprocessStep, ...]
    model: ModelSpec
    postprocess: tuple[PostprocessStep, ...] = ()
    windows: SlidingWindowSpec = field(default_factory=SlidingWindowSpec)
    regions: tuple[Region, ...] = ()
    refine: tuple[RefineStep, ...] = ()
    priors: tuple[Prior, ...] = ()
    marker: MarkerCheck | None = field(default=None, metadata=UNLESS_EMPTY)

    def __post_init__(self) -> None:
        """Check that all parts fit together."""
        values = [label.value for label in self.labels]
        if values != list(range(1, len(values) + 1)):
            raise SpecError(f"label values must be 1, 2, 3, ... in order, not {values}.")
        names = [label.name for label in self.labels] + [region.name for region in self.regions]
        if len(set(names)) != len(names):
            raise SpecError("two labels or regions have the same name.")
        for region in self.regions:
            if not region.labels or set(region.labels) - set(values):
                raise SpecError(
                    f'region "{region.name}" is of labels {list(region.labels)}; expected some '
                    f"of {values}."
                )
        if self.model.num_classes != len(values) + 1:
            raise SpecError(
                f"model.num_classes is {self.model.num_classes}; "
                f"{len(values)} labels and background make {len(values) + 1}."
            )
        if self.model.in_channels != self.input.channels:
            raise SpecError(
                f"model.in_channels is {self.model.in_channels}, "
                f"input.channels is {self.input.channels}; they must be equal."
            )
        self._check_axes()
        self._check_repairs(values)

    def _check_axes(self) -> None:
        spatial_dims, size_px = self.model.spatial_dims, self.input.size_px
        if len(size_px) != spatial_dims:
            raise SpecError(f"input.size_px is {size_px}; model.spatial_dims is {spatial_dims}.")
        stride = self.model.logit_stride
        if any(size < stride or size % stride for size in size_px):
            raise SpecError(
                f"input.size_px is {size_px}; expected multiples of logit_stride, {stride}."
            )
        if self.input.neighbours and (spatial_dims == 3 or self.input.channels != 3):
            raise SpecError(
                f"input.neighbours is {self.input.neighbours}, input.channels is "
                f"{self.input.channels} and model.spatial_dims {spatial_dims}; a frame with "
                "one neighbour on "
                "each side has 3 channels, in a network of 2 axes."
            )
        if self.marker is not None and spatial_dims != 2:
            raise SpecError("marker is for a network of 2 axes: a scan says which side is left.")
        for step in (*self.preprocess, *self.postprocess, *self.refine, *self.priors):
            if spatial_dims not in step.AXES:
                raise SpecError(
                    f'step "{step.step}" is not for a network of {spatial_dims} axes in bedside '
                    f"{__version__}. Leave it out."
                )
        check_order(self.preprocess, spatial_dims)

    def _check_repairs(self, values: list[int]) -> None:
        for step in self.postprocess:
            check_units(step, self.model.spatial_dims)
            if set(step.labels) - set(values):
                raise SpecError(
                    f'step "{step.step}" is of labels {list(step.labels)}; expected some of '
                    f"{values}."
                )
        for prior in self.priors:
            check_prior(prior, spatial_dims=self.model.spatial_dims, values=values)
