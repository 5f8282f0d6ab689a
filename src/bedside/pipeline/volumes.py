"""From a scan to the network's tensor, and from its logits back to labels on the scan's grid."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bedside.errors import FormatError, GeometryError
from bedside.pipeline.body import find_body_of_scan
from bedside.pipeline.resize import resize_linear
from bedside.pipeline.scan import crop_scan, even_out, read_scan, resample_scan
from bedside.pipeline.value_range import RELATIVE, reaches_below_zero, say_shifted
from bedside.pipeline.volume_placement import Shape3, VolumePlacement
from bedside.pipeline.volume_steps import TONE_STEPS
from bedside.spec import (
    CropBody,
    DeploymentSpec,
    Orient,
    PreprocessStep,
    Resample,
    ScalePercentile,
)
from bedside.volume import Cine, Orientation, find_orientation


@dataclass(frozen=True)
class PreparedVolume:
    """A scan as the network sees it.

    Attributes:
        array: (C, *placement.grid), float32 or float16.
        placement: Where it lies on the scan, and in the network's tensor.
        warnings: What could not be trusted.
    """

    array: np.ndarray = field(repr=False)
    placement: VolumePlacement
    warnings: tuple[str, ...]

    @property
    def tensor(self) -> np.ndarray:
        """The scan as one tensor, (C, D, H, W) float32, at least as large as a window."""
        return self.placement.pad(self.array)

    def read(self, inside: tuple[slice, ...]) -> np.ndarray:
        """Cut a part out of the tensor, float32, without building it."""
        return self.placement.cut(self.array, inside)


class Draft:
    """A scan on its way; each step reads it and writes to it.

    Args:
        cine: The scan as stored.
        multiple: Voxels that sizes are to be a multiple of where they are chosen.
        foreseen: Follow its shape only, and never read it.
        modality: Of the bundle, which tells what values mean.

    Attributes:
        cine: As given.
        multiple: As given.
        modality: As given.
        orientation: How its axes were turned.
        spacing_mm: Of the array, along (D, H, W); None if unknown.
        warnings: Sentences for a person.
    """

    def __init__(
        self, cine: Cine, *, multiple: int = 1, foreseen: bool = False, modality: str = ""
    ) -> None:
        self.cine = cine
        self.multiple = multiple
        self.modality = modality
        self._foreseen = foreseen
        self.orientation = Orientation()
        self.spacing_mm = cine.voxel_mm
        self.warnings: list[str] = []
        self._array: np.ndarray | None = None

    @property
    def array(self) -> np.ndarray:
        """(C, D, H, W), as the steps so far leave it; read from the file when first asked for."""
        if self._array is None:
            self._array = self.orientation.apply(read_scan(self.cine))
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
        frames, _, height, width = self.cine.shape
        return self.orientation.reorder((frames, height, width))

    def turn(self, orientation: Orientation) -> None:
        """Turn the axes; before anything else has changed the array."""
        if self._array is not None:
            self._array = orientation.apply(self._array)
        self.orientation = orientation

    def own(self) -> np.ndarray:
        """Give the array as float32 that may be written to."""
        array = self.array
        if array.dtype != np.float32 or not array.flags.writeable:
            array = np.array(array, np.float32)
        return array

    def resize(self, shape: Shape3) -> None:
        """Resize the array, slice by slice if it has not been read yet."""
        if self._foreseen:
            # An array of this shape without its memory.
            self._array = np.broadcast_to(np.float32(0), (self.cine.shape[1], *shape))
            return
        if self._array is not None:
            self.array = resize_linear(self._array, shape)
            return
        stored = [0, 0, 0]
        for axis, size in zip(self.orientation.order, shape, strict=True):
            stored[axis] = size
        self.array = self.orientation.apply(resample_scan(self.cine, stored))


def prepare_volume(cine: Cine, spec: DeploymentSpec, *, half: bool = False) -> PreparedVolume:
    """Run every step of a deployment on a scan.

    Args:
        cine: The scan; its frames are decoded once, one at a time.
        spec: Steps, size of the window, stride of the logits.
        half: Keep the result in 16 bits, which costs 11 bits of precision and half the memory.

    Raises:
        FormatError: If it has another number of channels than the network takes, or too
            many of its values are no numbers.
        GeometryError: If a step needs a spacing and there is none.
    """
    if cine.shape[1] != spec.input.channels:
        raise FormatError(
            f'the scan has {cine.shape[1]} channels, bundle "{spec.name}" takes '
            f"{spec.input.channels}. Give one file a channel, in the bundle's order."
        )
    stored, cine = cine, cine if cine.uneven is None else even_out(cine)
    first = spec.preprocess[0] if spec.preprocess else None
    body = find_body_of_scan(cine, first) if isinstance(first, CropBody) else None
    draft = Draft(
        cine if body is None else crop_scan(cine, body),
        multiple=spec.model.logit_stride,
        modality=spec.input.modality,
    )
    if isinstance(first, CropBody) and body is None:
        draft.warnings.append("no body was found; the whole scan was segmented.")
    for step in spec.preprocess:
        STEPS[type(step)](step, draft)
    array = draft.array
    if half or array.dtype != np.float32:
        array = array.astype(np.float16 if half else np.float32)
    placement = replace(place_volume(draft, spec), body=body)
    placement = _place_stored(placement, stored)
    return PreparedVolume(array, placement, tuple(draft.warnings))


def foresee_placement(cine: Cine, spec: DeploymentSpec) -> VolumePlacement:
    """Tell how a scan will lie in the network's tensor, without reading it.

    Raises:
        GeometryError: As `prepare_volume`.
    """
    stored, cine = cine, cine if cine.uneven is None else even_out(cine)
    draft = Draft(cine, multiple=spec.model.logit_stride, foreseen=True)
    for step in spec.preprocess:
        if isinstance(step, Orient | Resample):
            STEPS[type(step)](step, draft)
    return _place_stored(place_volume(draft, spec), stored)


def _place_stored(placement: VolumePlacement, stored: Cine) -> VolumePlacement:
    """Say of a placement which scan labels come back to: the one stored, whole."""
    shape = (len(stored), *stored.shape[2:])
    return replace(placement, source_shape=shape, uneven=stored.uneven)


def place_volume(draft: Draft, spec: DeploymentSpec) -> VolumePlacement:
    """Pad around the middle, to the window and to whole logits."""
    stride = spec.model.logit_stride
    sizes, offsets = [], []
    for size, side in zip(draft.shape, spec.input.size_px, strict=True):
        whole = max(side, -(-size // stride) * stride)
        sizes.append(whole)
        offsets.append((whole - size) // (2 * stride) * stride)
    frames, _, height, width = draft.cine.shape
    return VolumePlacement(
        source_shape=(frames, height, width),
        orientation=draft.orientation,
        grid=draft.shape,
        offset=(offsets[0], offsets[1], offsets[2]),
        tensor_shape=(sizes[0], sizes[1], sizes[2]),
    )


def _orient(step: Orient, draft: Draft) -> None:
    geometry = draft.cine.geometry
    if geometry is None:
        draft.warnings.append(
            "the file does not say how the scan lies in the patient; its axes were taken as "
            "stored: left and right may be exchanged."
        )
        return
    draft.turn(find_orientation(geometry))
    if draft.spacing_mm is not None:
        draft.spacing_mm = draft.orientation.reorder(draft.spacing_mm)


def _crop_body(step: CropBody, draft: Draft) -> None:
    """Do nothing more: it was cut out when the scan was opened, before its axes were turned."""


def _resample(step: Resample, draft: Draft) -> None:
    if draft.spacing_mm is None:
        raise GeometryError(
            "the distance between the image's voxels is not known, and this bundle needs it: it "
            "takes a scan of slices a known distance apart, not a cine, a still or a stack "
            "without a scale."
        )
    # Whole logits, so that their edges are those of the scan.
    whole = draft.multiple
    depth, height, width = (
        whole * max(1, round(size * old / new / whole))
        for size, old, new in zip(draft.shape, draft.spacing_mm, step.spacing_mm, strict=True)
    )
    draft.resize((depth, height, width))
    draft.spacing_mm = step.spacing_mm


def _scale_percentile(step: ScalePercentile, draft: Draft) -> None:
    array = draft.own()
    for channel in array:
        if draft.modality in RELATIVE and reaches_below_zero(channel):
            low = float(channel.min())
            channel -= np.float32(low)
            draft.warnings.append(say_shifted(low))
        counted = channel[channel > 0]
        if not counted.size:
            draft.warnings.append("a channel of the scan has no value above 0.")
            channel[:] = 0
            continue
        low, high = np.percentile(counted, (step.low, step.high))
        if not step.low:
            low = 0.0
        channel -= np.float32(low)
        channel /= np.float32(max(high - low, 1e-12))
        np.clip(channel, 0, 1, out=channel)
    draft.array = array


STEPS: Mapping[type[PreprocessStep], Callable[[Any, Draft], None]] = {
    Orient: _orient,
    Resample: _resample,
    ScalePercentile: _scale_percentile,
    CropBody: _crop_body,
    **TONE_STEPS,
}
