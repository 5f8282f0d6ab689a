"""A recipe as data: a deployment and how to train it."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from bedside.errors import SpecError
from bedside.spec.deployment import READABLE_VERSIONS, SCHEMA_VERSION, DeploymentSpec
from bedside.spec.distillation import DistillSpec
from bedside.spec.former import to_present
from bedside.spec.model import ModelSpec
from bedside.spec.named import named_spec
from bedside.spec.reading import UNLESS_EMPTY, from_mapping, read_toml, to_mapping
from bedside.spec.shipped import find_recipe


@dataclass(frozen=True)
class DataSpec:
    """The data set.

    Attributes:
        name: What it is called.
        layout: How its folder is laid out; a key of the table of layouts.
        path: Folder, relative to where the command runs; `--data` overrides it.
        source: Citation.
        license: Terms that the data, and what is trained on it, come under.
        split: Parts for training, validation and test, by patient.
        split_seed: Seed of the split.
        relabel: Label for each value that the masks hold in place of one, such as
            `{ 255 = 1 }`; a label that none stands for is kept as it is.
        split_by: "patient" shares patients out one by one; "blocks" keeps neighbours in
            the order of their ids together, for data without patient ids of which
            neighbours may be one person.
        split_blocks: Number of such runs of neighbours; each falls into one part.
        folds: Number of folds of a cross-validation; 0 for none. Test patients stay what
            they are; every other patient is for validation in one fold.
        fold: Which of them this is, from 0.
        train_fraction: Part of the training patients that is trained on, in (0, 1].
    """

    name: str
    layout: str
    path: str
    source: str
    license: str
    split: tuple[float, float, float] = (0.7, 0.1, 0.2)
    split_seed: int = 0
    relabel: Mapping[str, int] = field(default_factory=dict)
    split_by: Literal["patient", "blocks"] = "patient"
    split_blocks: int = 20
    folds: int = 0
    fold: int = 0
    train_fraction: float = 1.0

    def __post_init__(self) -> None:
        """Refuse values, folds and fractions that do not exist."""
        for value, label in self.relabel.items():
            if not value.isdecimal() or int(value) == 0 or label < 0:
                raise SpecError(
                    f"relabel has {value} = {label}; expected a value above 0 that the masks "
                    "hold, and the label in its place, such as 255 = 1."
                )
        if self.folds == 1 or self.folds < 0 or not 0 <= self.fold < max(1, self.folds):
            raise SpecError(
                f"fold is {self.fold} of {self.folds}; expected none, or 0 up to the number of "
                "at least 2 folds."
            )
        if not 0 < self.train_fraction <= 1:
            raise SpecError(
                f"train_fraction is {self.train_fraction}; expected above 0 and at most 1."
            )


@dataclass(frozen=True)
class AugmentSpec:
    """Augmentation of training images. Ranges are (low, high), drawn uniformly.

    Attributes:
        rotate_deg: Largest rotation either way.
        log2_scale: Range of the binary logarithm of the scale.
        log2_aspect: Largest binary logarithm of a stretch along one axis, either way.
        shift: Largest shift, as a fraction of the image.
        flip: Probability of a mirror along the last axis, left to right in an image.
        flip_axes: Probability of a mirror along each axis, in array order; empty for
            `flip` alone.
        rotate_axes_deg: Largest rotation of a volume about each axis, in array order;
            empty for `rotate_deg` about each.
        elastic_px: Largest standard deviation of a smooth deformation, in pixels.
        gamma_log2: Range of the binary logarithm of gamma.
        gain: Range of a factor on intensities.
        channel_tone: Whether gamma and gain of each channel are drawn by themselves, as sequences
            of MR vary, and not those of colours; images only.
        depth_gain: Largest change of gain from the top to the bottom, either way; images
            only.
        speckle: Largest standard deviation of multiplied noise.
        noise: Largest standard deviation of added noise.
        blur_px: Largest standard deviation of a Gaussian blur.
        low_resolution: Largest factor that the grid is coarsened by for a while; 1 for
            not at all.
        fan_cut: Probability that the sector is narrowed, or its near or far end cut;
            images only.
        compress: Probability of JPEG compression; images only.
        shadow: Probability of one or two acoustic shadows, wedges from the sector's apex as
            behind ribs, lung or calcification; images only.
        shadow_deg: Range of the width of a shadow, in degrees.
        shadow_brightness: Range of what is left of the intensity in a shadow, in [0, 1].
        dropout: Probability that the echoes of one side of the sector, or of the far field,
            are lost; images only.
        structure_tone: Largest shift of the brightness of each structure, as a part of the
            range, either way and each structure by itself, as contrast medium in bowel and
            vessels and another phase have it; images only.
        cavity: Probability that a dark ellipse is planted into what is drawn and stays part of
            it, as cysts and necrosis of tumours do; images only.
        channel_dropout: Probability that a channel is left out, as a sequence that was not
            acquired: one number for all, or one a channel. One channel always stays.
    """

    rotate_deg: float = 20.0
    log2_scale: tuple[float, float] = (-0.4, 0.3)
    log2_aspect: float = 0.15
    shift: float = 0.08
    flip: float = 0.0
    flip_axes: tuple[float, ...] = ()
    rotate_axes_deg: tuple[float, ...] = ()
    elastic_px: float = 0.0
    gamma_log2: tuple[float, float] = (-0.7, 0.9)
    gain: tuple[float, float] = (0.6, 1.3)
    channel_tone: bool = False
    depth_gain: float = 0.4
    speckle: float = 0.2
    noise: float = 0.0
    blur_px: float = 1.2
    low_resolution: float = 1.0
    fan_cut: float = 0.3
    compress: float = 0.2
    shadow: float = 0.0
    shadow_deg: tuple[float, float] = (6.0, 40.0)
    shadow_brightness: tuple[float, float] = (0.0, 0.6)
    dropout: float = 0.0
    structure_tone: float = 0.0
    cavity: float = 0.0
    channel_dropout: float | tuple[float, ...] = 0.0


@dataclass(frozen=True)
class TrainingSpec:
    """How the network is trained.

    Attributes:
        epochs: Passes over the training cases.
        batch_size: Images a step.
        learning_rate: Peak of the one-cycle schedule.
        weight_decay: AdamW's.
        warmup: Part of the steps in which the rate rises.
        ema_decay: Decay a step of the averaged weights that are kept; 0 for none.
        dice_weight: Weight of the soft Dice loss.
        ce_weight: Weight of the cross-entropy.
        grad_clip: Largest norm of the gradient.
        seed: Seed of weights, order and augmentation.
        validate_every: Epochs between validations.
        class_weights: Weight of each label in the cross-entropy, the background's first;
            empty for all alike.
        label_bias: What is added to the logit of each label, the background's first, over what
            the loss asks for; empty for nothing. A structure that the network is often unsure of
            is drawn too small, and larger with a bias; choose it on validation patients.
        label_smoothing: Part of each pixel's truth that is spread over all labels alike.
        boundary_weight: Weight of a second cross-entropy, over pixels near outlines only.
        boundary_px: How near that is.
        deep_weight: Weight of the losses of coarser logits, for a network with deep
            supervision; among them each weighs half as much as the next finer one.
        outline_weight: Weight of the drawn outlines' loss, for a network with that branch.
        patch_px: Size of the patches that are cut out of larger examples, in array order; empty
            for that of the network's input. Smaller ones than the window in use make more steps.
        foreground: Part of the patches that have a structure in their middle; which one is drawn
            evenly.
        patches: Patches of each scan in an epoch.
        empty_share: Part of the training images without any structure that an epoch draws, in
            [0, 1]; another part in every epoch. Of scans cut into slices many show none.
        start: Run folder of the network whose weights are trained further, relative to where
            the command runs; empty for fresh weights.
        hold_norms: Whether batch norms keep the statistics that they start with, as in use. Those
            of batches of one or two examples are their own, and a network that was trained by
            them meets others in use; so this is for training further, from `start`.
        renorm: Whether batch norms turn to those statistics early in the training and keep
            learning them, which fresh weights bear too.
    """

    epochs: int = 60
    batch_size: int = 16
    learning_rate: float = 3e-3
    weight_decay: float = 0.01
    warmup: float = 0.1
    ema_decay: float = 0.998
    dice_weight: float = 1.0
    ce_weight: float = 1.0
    grad_clip: float = 1.0
    seed: int = 0
    validate_every: int = 5
    class_weights: tuple[float, ...] = ()
    label_bias: tuple[float, ...] = field(default=(), metadata=UNLESS_EMPTY)
    label_smoothing: float = 0.0
    boundary_weight: float = 0.0
    boundary_px: int = 3
    deep_weight: float = 0.5
    outline_weight: float = 0.2
    patch_px: tuple[int, ...] = field(default=(), metadata=UNLESS_EMPTY)
    foreground: float = 0.5
    patches: int = 1
    empty_share: float = 1.0
    start: str = ""
    hold_norms: bool = False
    renorm: bool = False

    def __post_init__(self) -> None:
        """Refuse numbers that cannot be trained with, and norms held before they know any."""
        if self.hold_norms and not self.start:
            raise SpecError(
                "hold_norms is set without a start: fresh norms have no statistics to keep. Name "
                "the run folder that is trained further."
            )
        for name in ("epochs", "batch_size", "validate_every", "boundary_px", "patches"):
            if getattr(self, name) < 1:
                raise SpecError(f"{name} is {getattr(self, name)}; expected at least 1.")
        if not 0 <= self.label_smoothing < 1:
            raise SpecError(
                f"label_smoothing is {self.label_smoothing}; expected at least 0 and below 1."
            )
        if not 0 <= self.empty_share <= 1:
            raise SpecError(f"empty_share is {self.empty_share}; expected 0 to 1.")


@dataclass(frozen=True)
class BuildSpec:
    """How a finished run becomes a bundle.

    Attributes:
        int8: Whether a graph in 8 bits is added, if it passes `max_dice_drop`.
        calibration_images: Training images that its ranges are read from.
        max_dice_drop: Largest loss of any structure's validation Dice against f32.
        accuracy_aware: Whether layers are taken back to f32, as few as suffice, where 8 bits
            throughout lose more than that.
        robustness: Whether planted artefacts are measured on the test patients for the card,
            which takes a dozen evaluations; `bedside certify --robustness` does it later.
    """

    int8: bool = True
    calibration_images: int = 128
    max_dice_drop: float = 0.005
    accuracy_aware: bool = False
    robustness: bool = True


@dataclass(frozen=True)
class Recipe:
    """A model for a data set.

    Attributes:
        schema_version: Version of this layout of settings.
        deployment: The bundle to build.
        data: The data set.
        augment: Augmentation of training images.
        training: Training schedule and losses.
        build: How it becomes a bundle.
        distill: Distillation from other networks; None for experts' labels alone.
    """

    schema_version: int
    deployment: DeploymentSpec
    data: DataSpec
    augment: AugmentSpec = field(default_factory=AugmentSpec)
    training: TrainingSpec = field(default_factory=TrainingSpec)
    build: BuildSpec = field(default_factory=BuildSpec)
    distill: DistillSpec | None = None

    @property
    def patch_px(self) -> tuple[int, ...]:
        """Size of what training cuts out of examples, in array order."""
        return self.training.patch_px or self.deployment.input.size_px

    def __post_init__(self) -> None:
        """Refuse a version that this code does not know, and patches of other axes."""
        if len(self.patch_px) != self.deployment.model.spatial_dims or min(self.patch_px) < 1:
            raise SpecError(
                f"training.patch_px is {list(self.patch_px)}; expected a size of at least 1 along "
                f"each of {self.deployment.model.spatial_dims} axes."
            )
        if self.schema_version not in READABLE_VERSIONS:
            raise SpecError(
                f"schema_version is {self.schema_version}; this bedside reads "
                f"{' and '.join(map(str, READABLE_VERSIONS))}."
            )
        object.__setattr__(self, "schema_version", SCHEMA_VERSION)


def read_recipe(path: str | Path) -> Recipe:
    """Return a recipe: a file, or a shipped one by its name.

    A recipe may have `extends = "other.toml"`, a file beside it, and then only what differs:
    tables are merged key by key, anything else is replaced, and `false` for a table leaves
    it out. Its `[deployment.model]` may
    give a `name` and, beside `in_channels` and `num_classes`, only what differs from the
    network of that name; a name replaces the network of a recipe that is extended.

    Args:
        path: A TOML file.

    Raises:
        SpecError: If it is missing, is not TOML, extends itself, or has an unknown setting.
    """
    path = find_recipe(path)
    try:
        return from_mapping(Recipe, _resolve_name(_read_extended(path, ())))
    except SpecError as error:
        raise SpecError(f"{path}: {error}") from error


def _read_extended(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    """Read a recipe's table with all that it extends merged below it."""
    real = Path(os.path.realpath(path))
    if real in seen:
        raise SpecError(f"{path} extends itself.")
    own = read_toml(path)
    other = own.pop("extends", None)
    if other is None:
        return own
    if not isinstance(other, str):
        raise SpecError(f"extends is {other!r}; expected the name of a file.")
    return _merge(_read_extended(path.parent / other, (*seen, real)), own)


def _merge(below: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Merge one table over another."""
    merged = dict(below)
    for key, value in own.items():
        under = merged.get(key)
        if isinstance(value, dict) and isinstance(under, dict):
            if key == "model" and "name" in value:
                under = {name: under[name] for name in ("in_channels", "num_classes")}
            merged[key] = _merge(under, value)
        elif value is False and isinstance(under, dict):
            del merged[key]
        else:
            merged[key] = value
    return merged


def _resolve_name(recipe: dict[str, Any]) -> dict[str, Any]:
    """Replace the name of a named model by its settings."""
    deployment = recipe.get("deployment")
    model = deployment.get("model") if isinstance(deployment, Mapping) else None
    if not isinstance(deployment, Mapping) or not isinstance(model, Mapping):
        return recipe
    own = to_present(ModelSpec, model)
    name = own.pop("name", None)
    if name is None:
        return recipe
    settings = to_mapping(named_spec(str(name), spatial_dims=own.get("spatial_dims", 2)))
    for key in ("in_channels", "num_classes"):
        del settings[key]
    return recipe | {"deployment": {**deployment, "model": settings | own}}
