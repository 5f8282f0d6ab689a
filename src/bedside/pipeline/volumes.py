"""From a scan to the network's tensor, and from its logits back to labels on the scan's grid."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bedside.errors import FormatError, GeometryError
from bedside.pipeline.body import find_body_of_scan
from bedside.pipeline.resize import resize_linear
from bedside.pipeline.scan import crop_scan, even_out, read_scan, resample_scan
from bedside.pipeline.value_range import RELATIVE, describe_shifted, reaches_below_zero
from bedside.pipeline.volume_steps import INTENSITY_STEPS
from bedside.pipeline.volume_transform import Shape3, VolumeTransform
from bedside.spec import (
    CropBody,
    DeploymentSpec,
    Orient,
    PreprocessStep,
    Resample,
    ScalePercentile,
)
from bedside.volume import ImageSequence, Orientation, find_orientation


@dataclass(frozen=True)
class PreparedVolume:
    """A scan as the network sees it.

    Attributes:
        array: (C, *placement.grid), float32 or float16.
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
        """Cut a part out of the tensor, float32, without building it."""
        return self.transform.cut(self.array, inside)


class VolumeBuilder:
    """A scan on its way; each step reads it and writes to it.

    Args:
        sequence: The scan as stored.
        multiple: Voxels that sizes are to be a multiple of where they are chosen.
        foreseen: Follow its shape only, and never read it.
        modality: Of the bundle, which tells what values mean.

    Attributes:
        sequence: As given.
        multiple: As given.
        modality: As given.
        orientation: How its axes were turned.
        spacing_mm: Of the array, along (D, H, W); None if unknown.
        warnings: Sentences for a person.
    """

    def __init__(
        self,
        sequence: ImageSequence,
        *,
        multiple: int = 1,
        foreseen: bool = False,
        modality: str = "",
    ) -> None:
        self.sequence = sequence
        self.multiple = multiple
        self.modality = modality
        self._foreseen = foreseen
        self.orientation = Orientation()
        self.spacing_mm = sequence.voxel_mm
        self.warnings: list[str] = []
        self._array: np.ndarray | None = None

    @property
    def array(self) -> np.ndarray:
        """(C, D, H, W), as the steps so far leave it; read from the file when first asked for."""
        if self._array is None:
            self._array = self.orientation.apply(read_scan(self.sequence))
        return self._array

    @array.setter
    def array(self, array: np.ndarray) -> None:
        self._array = array

    @property
    def shape(self) -> Shape3:
        """(D, H, W) of the array, which need not have been read for it."""
        if self._array is not None:
            depth, height, width = self._array.shape[1:]
            return depth, height, width
        frames, _, height, width = self.sequence.shape
        return self.orientation.reorder((frames, height, width))

    def turn(self, orientation: Orientation) -> None:
        """Turn the axes; before anything else has changed the array."""
        if self._array is not None:
            self._array = orientation.apply(self._array)
        self.orientation = orientation

    def own(self) -> np.ndarray:
        """Return the array as float32 that may be written to."""
        array = self.array
        if array.dtype != np.float32 or not array.flags.writeable:
            array = np.array(array, np.float32)
        return array

    def resize(self, shape: Shape3) -> None:
        """Resize the array, slice by slice if it has not been read yet."""
        if self._foreseen:
            # An array of this shape without its memory.
            self._array = np.broadcast_to(np.float32(0), (self.sequence.shape[1], *shape))
            return
        if self._array is not None:
            self.array = resize_linear(self._array, shape)
            return
        stored = [0, 0, 0]
        for axis, size in zip(self.orientation.order, shape, strict=True):
            stored[axis] = size
        self.array = self.orientation.apply(resample_scan(self.sequence, stored))


def prepare_volume(
    sequence: ImageSequence, spec: DeploymentSpec, *, half: bool = False
) -> PreparedVolume:
    """Run every step of a deployment on a scan.

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
    stored, sequence = sequence, sequence if sequence.uneven is None else even_out(sequence)
    first = spec.preprocess[0] if spec.preprocess else None
    body = find_body_of_scan(sequence, first) if isinstance(first, CropBody) else None
    builder = VolumeBuilder(
        sequence if body is None else crop_scan(sequence, body),
        multiple=spec.model.logit_stride,
        modality=spec.input.modality,
    )
    if isinstance(first, CropBody) and body is None:
        builder.warnings.append("no body was found; the whole scan was segmented.")
    for step in spec.preprocess:
        STEPS[type(step)](step, builder)
    array = builder.array
    if half or array.dtype != np.float32:
        array = array.astype(np.float16 if half else np.float32)
    transform = replace(place_volume(builder, spec), body=body)
    transform = _place_stored(transform, stored)
    return PreparedVolume(array, transform, tuple(builder.warnings))


def plan_transform(sequence: ImageSequence, spec: DeploymentSpec) -> VolumeTransform:
    """Tell how a scan will lie in the network's tensor, without reading it.

    Raises:
        GeometryError: As `prepare_volume`.
    """
    stored, sequence = sequence, sequence if sequence.uneven is None else even_out(sequence)
    builder = VolumeBuilder(sequence, multiple=spec.model.logit_stride, foreseen=True)
    for step in spec.preprocess:
        if isinstance(step, Orient | Resample):
            STEPS[type(step)](step, builder)
    return _place_stored(place_volume(builder, spec), stored)


def _place_stored(transform: VolumeTransform, stored: ImageSequence) -> VolumeTransform:
    """Say of a placement which scan labels come back to: the one stored, whole."""
    shape = (len(stored), *stored.shape[2:])
    return replace(transform, source_shape=shape, uneven=stored.uneven)


def place_volume(builder: VolumeBuilder, spec: DeploymentSpec) -> VolumeTransform:
    """Pad around the middle, to the window and to whole logits."""
    stride = spec.model.logit_stride
    sizes, offsets = [], []
    for size, side in zip(builder.shape, spec.input.size_px, strict=True):
        whole = max(side, -(-size // stride) * stride)
        sizes.append(whole)
        offsets.append((whole - size) // (2 * stride) * stride)
    frames, _, height, width = builder.sequence.shape
    return VolumeTransform(
        source_shape=(frames, height, width),
        orientation=builder.orientation,
        grid=builder.shape,
        offset=(offsets[0], offsets[1], offsets[2]),
        tensor_shape=(sizes[0], sizes[1], sizes[2]),
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
    """Do nothing more: it was cut out when the scan was opened, before its axes were turned."""


def _resample(step: Resample, builder: VolumeBuilder) -> None:
    if builder.spacing_mm is None:
        raise GeometryError(
            "the distance between the image's voxels is not known, and this bundle needs it: it "
            "takes a scan of slices a known distance apart, not a cine, a still or a stack "
            "without a scale."
        )
    # Whole logits, so that their edges are those of the scan.
    whole = builder.multiple
    depth, height, width = (
        whole * max(1, round(size * old / new / whole))
        for size, old, new in zip(builder.shape, builder.spacing_mm, step.spacing_mm, strict=True)
    )
    builder.resize((depth, height, width))
    builder.spacing_mm = step.spacing_mm


def _scale_percentile(step: ScalePercentile, builder: VolumeBuilder) -> None:
    array = builder.own()
    for channel in array:
        if builder.modality in RELATIVE and reaches_below_zero(channel):
            low = float(channel.min())
            channel -= np.float32(low)
            builder.warnings.append(describe_shifted(low))
        counted = channel[channel > 0]
        if not counted.size:
            builder.warnings.append("a channel of the scan has no value above 0.")
            channel[:] = 0
            continue
        low, high = np.percentile(counted, (step.low, step.high))
        if not step.low:
            low = 0.0
        channel -= np.float32(low)
        channel /= np.float32(max(high - low, 1e-12))
        np.clip(channel, 0, 1, out=channel)
    builder.array = array


STEPS: Mapping[type[PreprocessStep], Callable[[Any, VolumeBuilder], None]] = {
    Orient: _orient,
    Resample: _resample,
    ScalePercentile: _scale_percentile,
    CropBody: _crop_body,
    **INTENSITY_STEPS,
}
