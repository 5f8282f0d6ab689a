"""From a scan to the network's tensor."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bedside.errors import FormatError, GeometryError
from bedside.pipeline.body import find_body_of_scan
from bedside.pipeline.volumes.builder import VolumeBuilder
from bedside.pipeline.volumes.intensity_steps import INTENSITY_STEPS
from bedside.pipeline.volumes.scan import even_out
from bedside.pipeline.volumes.transform import VolumeTransform
from bedside.spec import CropBody, DeploymentSpec, Orient, PreprocessStep, Resample
from bedside.volume import ImageSequence, find_orientation


@dataclass(frozen=True)
class PreparedVolume:
    """A preprocessed scan.

    Attributes:
        array: (C, *transform.grid), float32 or float16.
        transform: Where it lies on the scan, and in the network's tensor.
        warnings: What could not be trusted.
    """

    array: np.ndarray = field(repr=False)
    transform: VolumeTransform
    warnings: tuple[str, ...]

    @property
    def tensor(self) -> np.ndarray:
        """The scan as one tensor, (C, D, H, W) float32, at least as large as a window."""
        return self.transform.pad(self.array)

    def read(self, inside: tuple[slice, ...]) -> np.ndarray:
        """Part of the tensor, float32, without building the tensor."""
        return self.transform.cut(self.array, inside)


def prepare_volume(
    sequence: ImageSequence, spec: DeploymentSpec, *, half: bool = False
) -> PreparedVolume:
    """Preprocess a scan.

    Args:
        sequence: The scan; its frames are decoded once, one at a time.
        spec: Steps, size of the window, stride of the logits.
        half: Keep the result in 16 bits, which costs 11 bits of precision and half the memory.

    Raises:
        FormatError: If it has another number of channels than the network takes, or too
            many of its values are no numbers.
        GeometryError: If a step needs a spacing and there is none.
    """
    if sequence.shape[1] != spec.input.channels:
        raise FormatError(
            f'the scan has {sequence.shape[1]} channels, bundle "{spec.name}" takes '
            f"{spec.input.channels}. Give one file a channel, in the bundle's order."
        )
    builder = VolumeBuilder(
        sequence if sequence.uneven is None else even_out(sequence),
        multiple=spec.model.logit_stride,
        modality=spec.input.modality,
    )
    for step in spec.preprocess:
        STEPS[type(step)](step, builder)
    array = builder.array
    if half or array.dtype != np.float32:
        array = array.astype(np.float16 if half else np.float32)
    return PreparedVolume(array, place_volume(builder, spec, sequence), tuple(builder.warnings))


def plan_transform(sequence: ImageSequence, spec: DeploymentSpec) -> VolumeTransform:
    """The transform of a scan, without reading it.

    Raises:
        GeometryError: As `prepare_volume`.
    """
    even = sequence if sequence.uneven is None else even_out(sequence)
    builder = VolumeBuilder(even, multiple=spec.model.logit_stride, foreseen=True)
    for step in spec.preprocess:
        if isinstance(step, Orient | Resample):
            STEPS[type(step)](step, builder)
    return place_volume(builder, spec, sequence)


def place_volume(
    builder: VolumeBuilder, spec: DeploymentSpec, stored: ImageSequence
) -> VolumeTransform:
    """The transform after all steps, padded evenly to the window and to whole logits.

    Args:
        builder: After all steps.
        spec: Size of the window, stride of the logits.
        stored: The scan whose grid labels come back to.
    """
    stride = spec.model.logit_stride
    sizes, offsets = [], []
    for size, side in zip(builder.shape, spec.input.size_px, strict=True):
        whole = max(side, -(-size // stride) * stride)
        sizes.append(whole)
        offsets.append((whole - size) // (2 * stride) * stride)
    frames, _, height, width = stored.shape
    return VolumeTransform(
        source_shape=(frames, height, width),
        orientation=builder.orientation,
        grid=builder.shape,
        offset=(offsets[0], offsets[1], offsets[2]),
        tensor_shape=(sizes[0], sizes[1], sizes[2]),
        body=builder.body,
        uneven=stored.uneven,
    )


def _orient(step: Orient, builder: VolumeBuilder) -> None:
    geometry = builder.sequence.geometry
    if geometry is None:
        builder.warnings.append(
            "the file does not say how the scan lies in the patient; its axes were taken as "
            "stored: left and right may be exchanged."
        )
        return
    builder.turn(find_orientation(geometry))
    if builder.spacing_mm is not None:
        builder.spacing_mm = builder.orientation.reorder(builder.spacing_mm)


def _crop_body(step: CropBody, builder: VolumeBuilder) -> None:
    body = find_body_of_scan(builder.sequence, step)
    if body is None:
        builder.warnings.append("no body was found; the whole scan was segmented.")
    else:
        builder.crop(body)


def _resample(step: Resample, builder: VolumeBuilder) -> None:
    shape, spacing_mm = np.array(builder.shape), builder.spacing_mm
    if step.size_vox is not None:
        wanted = np.where(step.size_vox, step.size_vox, shape)
        if spacing_mm is not None:
            depth_mm, row_mm, column_mm = (spacing_mm * shape / wanted).tolist()
            builder.spacing_mm = depth_mm, row_mm, column_mm
    elif spacing_mm is None:
        raise GeometryError(
            "the distance between the image's voxels is not known, and this bundle needs it: it "
            "takes a scan of slices a known distance apart, not a cine, a still or a stack "
            "without a scale."
        )
    else:
        wanted = shape * spacing_mm / np.array(step.spacing_mm)
        builder.spacing_mm = step.spacing_mm
    # Whole logits, so that their edges are those of the scan.
    whole = builder.multiple
    depth, height, width = (whole * max(1, round(size / whole)) for size in wanted.tolist())
    builder.resize((depth, height, width))


STEPS: Mapping[type[PreprocessStep], Callable[[Any, VolumeBuilder], None]] = {
    Orient: _orient,
    Resample: _resample,
    CropBody: _crop_body,
    **INTENSITY_STEPS,
}
