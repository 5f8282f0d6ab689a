"""Chooses a first recipe for a data set, each choice explained in a line."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, cast

from bedside.errors import DataError, UsageError
from bedside.planning.colors import choose_color
from bedside.planning.schedule import choose_augment, choose_split, choose_training
from bedside.planning.survey import Structure, Survey
from bedside.spec import (
    SCHEMA_VERSION,
    Code,
    DataSpec,
    DeploymentSpec,
    FillHoles,
    Fit,
    Grey,
    InputSpec,
    KeepLargest,
    Label,
    Orient,
    PostprocessStep,
    PreprocessStep,
    Recipe,
    Resample,
    Rgb,
    ScalePercentile,
    WindowLevel,
    named_spec,
)
from bedside.spec.model import ModelSpec

UNKNOWN = "unknown: fill in before you share a bundle"
"""Stands for licence and source until someone who knows writes them down."""

LONG_SIDE_PX = 256
"""Longest side of an image as the network sees it, and where structures are small:"""
FINE_SIDE_PX = 320
SMALL_PX = 14
"""Extent of a structure, at `LONG_SIDE_PX`, that is small."""

LONGEST_WINDOW = 96
MOST_VOXELS = 2**19
"""Voxels of a window: the activations of a small network then take about a gigabyte."""

_ANATOMY = Code("91723000", "SCT", "Anatomical Structure")
_TISSUE = Code("85756007", "SCT", "Tissue")

# The layouts whose data are all of one modality, and words for it in a dataset.json.
_LAYOUTS: Mapping[str, str] = {
    "camus": "US", "hc18": "US", "acdc": "MR", "brats": "MR", "lidc": "CT", "luna16": "CT",
    "btcv": "CT", "video": "ES",
}  # fmt: skip
_WORDS: Mapping[str, str] = {
    "mri": "MR", "mr": "MR", "t1": "MR", "t2": "MR", "flair": "MR", "ct": "CT", "us": "US",
    "ultrasound": "US",
}  # fmt: skip
_HU = -150.0


@dataclass(frozen=True)
class Wishes:
    """Choices of the user.

    Attributes:
        name: Name of the bundle; the folder's if None.
        model: A named model.
        modality: DICOM's word; guessed if None.
    """

    name: str | None = None
    model: str = "tiny-conv"
    modality: str | None = None


@dataclass(frozen=True)
class RecipePlan:
    """A recipe and its network's name.

    Attributes:
        recipe: The recipe.
        model: Name of the network that `recipe.deployment.model` is.
        guessed: Whether the modality is a guess.
    """

    recipe: Recipe
    model: str
    guessed: bool


def choose_recipe(survey: Survey, wishes: Wishes) -> RecipePlan:
    """Return a first recipe.

    Raises:
        SplitError: If there are too few patients for three parts.
        DataError: If the images have a number of channels that no step takes.
        SpecError: If there is no model of that name.
    """
    split = choose_split(survey)
    known = wishes.modality or find_modality(survey)
    modality = known or guess_modality(survey)
    name = wishes.name or _slug(survey.path)
    _check_channels(survey)
    size_px = _choose_window(survey) if survey.spatial_dims == 3 else _choose_size(survey)
    deployment = DeploymentSpec(
        name=name,
        version="1.0",
        task=str(survey.about.get("description") or f"Say in a line what {name} segments"),
        input=InputSpec(
            modality=modality or "OT",
            channels=3 if survey.coloured else _channels(survey),
            size_px=size_px,
            view="",
        ),
        labels=tuple(_label(structure) for structure in survey.structures),
        preprocess=_choose_preprocess(survey, modality),
        model=_choose_model(survey, wishes.model, size_px),
        postprocess=_choose_postprocess(survey),
    )
    about = survey.about
    recipe = Recipe(
        schema_version=SCHEMA_VERSION,
        deployment=deployment,
        data=DataSpec(
            name=str(about.get("name") or survey.path.resolve().name),
            layout=survey.layout,
            path=str(survey.path),
            source=str(about.get("reference") or UNKNOWN),
            license=str(about.get("licence") or about.get("license") or UNKNOWN),
            split=split,
            relabel={str(value): label for value, label in survey.relabel.items()},
        ),
        augment=choose_augment(
            modality, spatial_dims=survey.spatial_dims, coloured=survey.coloured
        ),
        training=choose_training(survey, wishes.model, size_px=size_px, share=split[0]),
    )
    return RecipePlan(recipe, wishes.model, guessed=known is None)


def find_modality(survey: Survey) -> str | None:
    """The modality according to the files, the layout or an index; None if unknown."""
    known = survey.modality or _LAYOUTS.get(survey.layout)
    if known:
        return known
    modality = survey.about.get("modality") or survey.about.get("channel_names")
    words = modality.values() if isinstance(modality, dict) else [modality]
    for word in words:
        first = re.split(r"[^a-z0-9]", str(word).lower())[0]
        if first in _WORDS:
            return _WORDS[first]
    return None


def guess_modality(survey: Survey) -> str | None:
    """Guess the modality from intensities that only CT has, or from colour; else None."""
    if survey.densities[0] < _HU:
        return "CT"
    return "ES" if survey.coloured else None


def _check_channels(survey: Survey) -> None:
    """Refuse images that the pipeline has no step for."""
    if survey.spatial_dims == 2 and survey.channels not in (1, 3):
        raise DataError(
            f"the images of {survey.path} have {survey.channels} channels; images have 1 "
            "(grey) or 3 (colour). Keep one channel, or pass --spatial-dims 3 for a scan."
        )


def _channels(survey: Survey) -> int:
    return survey.channels if survey.spatial_dims == 3 else 1


def _choose_size(survey: Survey) -> tuple[int, int]:
    """Choose (height, width): the images' aspect, at most 256, in multiples of 32."""
    height, width = survey.size_px
    longer = max(height, width)
    small = min(structure.extent for structure in survey.structures) * LONG_SIDE_PX < SMALL_PX
    limit = FINE_SIDE_PX if small else LONG_SIDE_PX
    scale = min(1.0, limit / longer)
    return _up(height * scale, 32), _up(width * scale, 32)


def _choose_window(survey: Survey) -> tuple[int, ...]:
    """Choose a window (D, H, W) that covers most scans, or as much of them as fits."""
    sides = [min(LONGEST_WINDOW, _up(size, 8)) for size in survey.size_px]
    while math.prod(sides) > MOST_VOXELS:
        sides[sides.index(max(sides))] -= 8
    return tuple(sides)


def _up(length: float, step: int) -> int:
    """Round up to a multiple; ignoring rounding errors."""
    return max(step, math.ceil(round(length, 3) / step) * step)


def _choose_preprocess(survey: Survey, modality: str | None) -> tuple[PreprocessStep, ...]:
    """Choose the steps in front of the network."""
    if survey.spatial_dims == 2:
        colour: PreprocessStep = Rgb() if survey.coloured else Grey()
        return (colour, Fit(), ScalePercentile())
    steps: list[PreprocessStep] = [Orient()]
    if survey.spacing_mm is not None:
        depth_mm, row_mm, column_mm = survey.spacing_mm
        steps.append(Resample(spacing_mm=(depth_mm, row_mm, column_mm)))
    return (*steps, _choose_window_level(survey) if modality == "CT" else _percentiles())


def _percentiles() -> ScalePercentile:
    return ScalePercentile(low=0.5, high=99.5)


def _choose_window_level(survey: Survey) -> WindowLevel:
    """Choose the intensities of the labelled voxels, widened by half."""
    low, high = survey.densities
    width = max(1.5 * (high - low), 50.0)
    return WindowLevel(level=10.0 * round((low + high) / 20), width=10.0 * round(width / 10))


def _choose_model(survey: Survey, name: str, size_px: tuple[int, ...]) -> ModelSpec:
    """Take the named network, with finer first levels where the input is small."""
    spatial_dims = cast(Literal[2, 3], survey.spatial_dims)
    channels = 3 if survey.coloured and spatial_dims == 2 else _channels(survey)
    model = named_spec(
        name,
        spatial_dims=spatial_dims,
        in_channels=channels,
        num_classes=len(survey.structures) + 1,
    )
    return _with_strides(model, size_px)


def _with_strides(model: ModelSpec, size_px: tuple[int, ...]) -> ModelSpec:
    """Return a small input's network with stride 2 at its first level."""
    small = max(size_px) <= (128 if model.spatial_dims == 2 else 64)
    return (
        replace(model, stem_stride=2, logit_stride=1 if model.spatial_dims == 3 else 2)
        if small
        else model
    )


def _choose_postprocess(survey: Survey) -> tuple[PostprocessStep, ...]:
    """Add repairs only for what the experts' labels never show."""
    every = len(survey.structures)
    steps: list[PostprocessStep] = []
    single = tuple(structure.value for structure in survey.structures if structure.single)
    solid = tuple(structure.value for structure in survey.structures if structure.solid)
    if single:
        steps.append(KeepLargest(labels=() if len(single) == every else single))
    if solid:
        steps.append(FillHoles(labels=() if len(solid) == every else solid))
    return tuple(steps)


def _label(structure: Structure) -> Label:
    """Return a label with name, colour and generic codes."""
    return Label(
        value=structure.value,
        name=structure.name or f"label {structure.value}",
        color=choose_color(structure.value - 1),
        category=_ANATOMY,
        type=_TISSUE,
    )


def _slug(path: Path) -> str:
    """Return a name for the bundle, made from the name of a folder."""
    name = re.sub(r"[^a-z0-9]+", "-", path.resolve().name.lower()).strip("-")
    if not name:
        raise UsageError(f"{path} gives no name for the bundle; name it with --name.")
    return name
