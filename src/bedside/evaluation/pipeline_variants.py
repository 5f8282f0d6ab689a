"""Variants of a deployment for a pipeline ablation: one step less, or one more."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from bedside.errors import SpecError
from bedside.spec import (
    Clahe,
    Closing,
    CropBody,
    CropCentre,
    CropFan,
    DeploymentSpec,
    FanGain,
    FillHoles,
    Fit,
    Grey,
    KeepLargest,
    LocalCrf,
    NonLocalMeans,
    Opening,
    Orient,
    PreprocessStep,
    Resample,
    Rgb,
    ScaleMedian,
    ScalePercentile,
    ScaleRange,
    WindowLevel,
    WindowPreset,
    ZScore,
)

_DEFINE_INPUT = (Grey, Rgb, Fit, Orient, Resample)
_CROPS = (CropFan, CropCentre, CropBody)
_SCALES = (ScalePercentile, ScaleMedian, WindowLevel, WindowPreset, ZScore, FanGain, ScaleRange)
_RETRAIN = "the network was trained with other input: this is no step's worth after training anew"


@dataclass(frozen=True)
class Variant:
    """One deployment of an ablation.

    Attributes:
        name: What is different, such as "without fill_holes".
        kind: The deployment as it is, without a step of its own, or with a candidate.
        spec: The deployment.
        note: What a reader must know; empty if nothing.
    """

    name: str
    kind: Literal["as it is", "without", "with"]
    spec: DeploymentSpec
    note: str = ""


@dataclass(frozen=True)
class Required:
    """A step that was not dropped.

    Attributes:
        step: Its name.
        reason: Why.
    """

    step: str
    reason: str


def list_variants(spec: DeploymentSpec) -> tuple[list[Variant], list[Required]]:
    """Drop each step alone, and add each candidate alone.

    Args:
        spec: The deployment as it is.

    Returns:
        The variants, the deployment itself first; and the steps that were not dropped, because
        the network cannot run without them.
    """
    variants, required = [Variant("as it is", "as it is", spec)], []
    for index, step in enumerate(spec.preprocess):
        reason = _why_required(spec, index)
        try:
            fewer = _without(spec, index)
        except SpecError as error:
            reason = str(error)
        if reason:
            required.append(Required(step.step, reason))
            continue
        name = f"without {step.step}"
        if isinstance(step, _SCALES):
            name += ", its range kept"
        variants.append(Variant(name, "without", fewer, _RETRAIN))
    for part in ("refine", "postprocess", "priors"):
        steps = getattr(spec, part)
        for index, step in enumerate(steps):
            change: dict[str, Any] = {part: (*steps[:index], *steps[index + 1 :])}
            fewer = replace(spec, **change)
            variants.append(Variant(f"without {step.step}", "without", fewer))
    variants += _candidates(spec)
    return variants, required


def _why_required(spec: DeploymentSpec, index: int) -> str:
    """Why the network cannot run without a step; empty if it can."""
    step = spec.preprocess[index]
    if isinstance(step, _DEFINE_INPUT):
        return "the network's input has no other shape or axes"
    fits = any(isinstance(later, Fit) for later in spec.preprocess[index:])
    if isinstance(step, _CROPS) and spec.model.spatial_dims == 2 and not fits:
        return "it defines the grid of the network's input"
    return ""


def _without(spec: DeploymentSpec, index: int) -> DeploymentSpec:
    """Drop a step of preprocessing; what brought values to a range leaves a plain one behind."""
    steps = spec.preprocess
    step = steps[index]
    instead: tuple[PreprocessStep, ...] = ()
    if isinstance(step, _SCALES):
        read_raw = spec.model.spatial_dims == 3 or isinstance(step, WindowLevel | WindowPreset)
        instead = (ScaleRange(source="observed" if read_raw else "nominal"),)
    return replace(spec, preprocess=(*steps[:index], *instead, *steps[index + 1 :]))


def _candidates(spec: DeploymentSpec) -> Iterator[Variant]:
    """Add steps that the deployment does not have; those that do not fit into it are left out."""
    post = spec.postprocess
    for edit in (KeepLargest(), FillHoles()):
        if not any(isinstance(step, type(edit)) for step in post):
            more = replace(spec, postprocess=(*post, edit))
            yield Variant(f"with {edit.step}", "with", more)
    for radius_px in (1.0, 2.0):
        for step in (Opening(radius_px=radius_px), Closing(radius_px=radius_px)):
            # In front of the others: what an opening cuts off is then a component of its own.
            more = replace(spec, postprocess=(step, *post))
            yield Variant(f"with {step.step}, {radius_px:g} px", "with", more)
    if spec.model.spatial_dims == 2:
        yield Variant("with local_crf", "with", replace(spec, refine=(*spec.refine, LocalCrf())))
    for added in (Clahe(), NonLocalMeans()):
        try:
            more = replace(spec, preprocess=_before_scale(spec, added))
        except SpecError:
            continue
        yield Variant(f"with {added.step}", "with", more, _RETRAIN)
    if spec.input.modality == "US" and any(isinstance(s, ScalePercentile) for s in spec.preprocess):
        gained = tuple(FanGain() if isinstance(s, ScalePercentile) else s for s in spec.preprocess)
        more = replace(spec, preprocess=gained)
        yield Variant("with fan_gain for scale_percentile", "with", more, _RETRAIN)


def _before_scale(spec: DeploymentSpec, added: PreprocessStep) -> tuple[PreprocessStep, ...]:
    """Insert an intensity step before the first scaling step; for a scan, at the end."""
    steps = spec.preprocess
    for index, step in enumerate(steps):
        if isinstance(step, ScalePercentile | FanGain | ScaleRange | ZScore) and (
            spec.model.spatial_dims == 2
        ):
            return (*steps[:index], added, *steps[index:])
    return (*steps, added)
