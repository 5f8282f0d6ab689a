"""From a scan to the network's tensor, and from its logits back to labels on the scan's grid."""

import functools
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bedside.errors import FormatError, GeometryError
from bedside.pipeline.body import find_body_of_scan
from bedside.pipeline.logits import Place, find_place, most_likely
from bedside.pipeline.resize import nearest_indices, resize_linear
from bedside.pipeline.scan import crop_scan, read_scan, resample_scan
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
from bedside.workers import map_in_turn

Shape3 = tuple[int, int, int]


@dataclass(frozen=True)
class VolumePlacement:
    """How the tensor lies on the scan: axes turned, resized edge to edge, and padded.

    Attributes:
        source_shape: (D, H, W) as stored.
        orientation: How the stored axes were turned.
        grid: (D, H, W) after turning and resampling.
        offset: Where the grid begins in the tensor, which is padded to at least a window.
        tensor_shape: (D, H, W) of the tensor.
        body: Part of the stored scan that is looked at; None for all of it. What is said of
            the source above is then said of this part, but for `source_shape`.
    """

    source_shape: Shape3
    orientation: Orientation
    grid: Shape3
    offset: Shape3
    tensor_shape: Shape3
    body: tuple[slice, ...] | None = None

    def project(self, labels: np.ndarray) -> np.ndarray:
        """Carry labels from the source grid to the tensor's, by nearest neighbour.

        Args:
            labels: (D, H, W) uint8 on the source grid.

        Returns:
            `tensor_shape` uint8; 0 in the padding.
        """
        turned = self.orientation.apply(labels if self.body is None else labels[self.body])
        picks = [
            nearest_indices(old, new) for old, new in zip(turned.shape, self.grid, strict=True)
        ]
        tensor = np.zeros(self.tensor_shape, np.uint8)
        tensor[self._inside] = turned[np.ix_(*picks)]
        return tensor

    def pad(self, array: np.ndarray) -> np.ndarray:
        """Put (C, *grid) into the tensor, zeros around it; float32."""
        whole = tuple(slice(0, size) for size in self.tensor_shape)
        return self.cut(array, whole)

    def cut(self, array: np.ndarray, inside: tuple[slice, ...]) -> np.ndarray:
        """Cut a part of the tensor out of (C, *grid) without building the tensor.

        Args:
            array: The scan on the grid, any real dtype.
            inside: Slices of the tensor's axes, with both ends.

        Returns:
            (C, *sizes of the slices) float32; 0 outside the grid.
        """
        places, sources = [], []
        for part, low, size in zip(inside, self.offset, self.grid, strict=True):
            begin = min(max(part.start - low, 0), size)
            end = min(max(part.stop - low, begin), size)
            sources.append(slice(begin, end))
            places.append(slice(begin + low - part.start, end + low - part.start))
        cut = np.zeros((len(array), *(part.stop - part.start for part in inside)), np.float32)
        cut[(slice(None), *places)] = array[(slice(None), *sources)]
        return cut

    def restore(self, slabs: Iterable[np.ndarray], *, stride: int) -> np.ndarray:
        """Carry logits back to the source grid and take the most likely class there.

        Logits are interpolated slice by slice and only then compared, so that no more of them
        are held on the source grid than one slice.

        Args:
            slabs: (K, n, H, W) float32 logits, slab after slab along the tensor's first axis;
                a slab is not used any more once the next is asked for.
            stride: Tensor voxels for one logit.

        Returns:
            (D, H, W) uint8 on the source grid.
        """
        labels = np.zeros(self.source_shape, np.uint8)
        # A view, so that slices written in the patient's order end up in the stored one.
        seen = labels if self.body is None else labels[self.body]
        turned = self.orientation.apply(seen)
        first, *begin = (low / stride for low in self.offset)
        count, *size = (side / stride for side in self.grid)
        place = find_place(
            (turned.shape[1], turned.shape[2]),
            begin=(begin[0], begin[1]),
            size=(size[0], size[1]),
        )
        # Edge to edge, as the scan was resized; what pads the grid has no say.
        depths = (np.arange(len(turned)) + 0.5) * (count / len(turned)) - 0.5
        depths = first + np.clip(depths, 0, max(count - 1, 0))
        known, done = 0, 0
        before: np.ndarray | None = None
        for slab in slabs:
            end = known + slab.shape[1]
            ready = int(np.searchsorted(np.ceil(depths), end))
            draw = functools.partial(_draw_slice, slab, before=before, place=place)
            for labelled in map_in_turn(draw, depths[done:ready] - known):
                turned[done] = labelled
                done += 1
            before, known = slab[:, -1].copy(), end
        return labels

    @property
    def _inside(self) -> tuple[slice, ...]:
        pairs = zip(self.offset, self.grid, strict=True)
        return tuple(slice(low, low + size) for low, size in pairs)


def _draw_slice(
    slab: np.ndarray, depth: float, *, before: np.ndarray | None, place: Place
) -> np.ndarray:
    """Interpolate between the slices of a slab and label what lies there.

    Args:
        slab: (K, n, h, w) logits.
        depth: In slices of the slab; from -1, which is `before`, to n - 1.
        before: The slice before the slab, (K, h, w).
        place: See `find_place`.

    Returns:
        (H, W) uint8.
    """
    low = math.floor(depth)
    share = np.float32(depth - low)
    near = slab[:, low] if low >= 0 else before
    assert near is not None  # what lies before a slab was the end of the last
    if share:
        near = near + share * (slab[:, low + 1] - near)
    return most_likely(near, place)


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

    Attributes:
        cine: As given.
        multiple: As given.
        orientation: How its axes were turned.
        spacing_mm: Of the array, along (D, H, W); None if unknown.
        warnings: Sentences for a person.
    """

    def __init__(self, cine: Cine, *, multiple: int = 1, foreseen: bool = False) -> None:
        self.cine = cine
        self.multiple = multiple
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
    first = spec.preprocess[0] if spec.preprocess else None
    body = find_body_of_scan(cine, first) if isinstance(first, CropBody) else None
    draft = Draft(cine if body is None else crop_scan(cine, body), multiple=spec.model.logit_stride)
    if isinstance(first, CropBody) and body is None:
        draft.warnings.append("no body was found; the whole scan was segmented.")
    for step in spec.preprocess:
        STEPS[type(step)](step, draft)
    array = draft.array
    if half or array.dtype != np.float32:
        array = array.astype(np.float16 if half else np.float32)
    placement = place_volume(draft, spec)
    if body is not None:
        placement = replace(placement, source_shape=(len(cine), *cine.shape[2:]), body=body)
    return PreparedVolume(array, placement, tuple(draft.warnings))


def foresee_placement(cine: Cine, spec: DeploymentSpec) -> VolumePlacement:
    """Tell how a scan will lie in the network's tensor, without reading it.

    Raises:
        GeometryError: As `prepare_volume`.
    """
    draft = Draft(cine, multiple=spec.model.logit_stride, foreseen=True)
    for step in spec.preprocess:
        if isinstance(step, Orient | Resample):
            STEPS[type(step)](step, draft)
    return place_volume(draft, spec)


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
            "the distance between the scan's voxels is not known, and this bundle needs it. "
            "Repair the header."
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
