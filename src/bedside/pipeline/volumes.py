"""From a scan to the network's tensor, and from its logits back to labels on the scan's grid."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from bedside.errors import FormatError, GeometryError
from bedside.pipeline.body import find_body
from bedside.pipeline.preprocess import MAX_BROKEN_SHARE
from bedside.pipeline.resize import nearest_indices, resize_linear, sample_axis
from bedside.pipeline.volume_steps import TONE_STEPS
from bedside.spec import (
    CropBody,
    DeploymentSpec,
    Orient,
    PreprocessStep,
    Resample,
    ScalePercentile,
    WindowLevel,
)
from bedside.volume import Orientation, Volume, find_orientation

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
        """Put (C, *grid) into the tensor, zeros around it."""
        if self.grid == self.tensor_shape:
            return array
        tensor = np.zeros((len(array), *self.tensor_shape), np.float32)
        tensor[(slice(None), *self._inside)] = array
        return tensor

    def restore(self, logits: np.ndarray, *, stride: int) -> np.ndarray:
        """Carry logits back to the source grid and take the most likely class there.

        Args:
            logits: (K, *tensor_shape / stride) float32.
            stride: Tensor voxels for one logit.

        Returns:
            (D, H, W) uint8 on the source grid.
        """
        source = np.zeros(self.source_shape, np.uint8)
        seen = source if self.body is None else source[self.body]
        shape = self.orientation.apply(seen).shape
        best: np.ndarray | None = None
        labels = np.zeros(shape, np.uint8)
        for value, plane in enumerate(logits):
            placed = plane
            for axis in range(3):
                centres = (np.arange(shape[axis]) + 0.5) * (self.grid[axis] / shape[axis])
                positions = (centres + self.offset[axis]) / stride - 0.5
                placed = sample_axis(placed, positions, axis=axis)
            if best is None:
                best = placed
                continue
            higher = placed > best
            labels[higher] = value
            best[higher] = placed[higher]
        seen[...] = self.orientation.undo(labels)
        return source

    @property
    def _inside(self) -> tuple[slice, ...]:
        pairs = zip(self.offset, self.grid, strict=True)
        return tuple(slice(low, low + size) for low, size in pairs)


@dataclass(frozen=True)
class PreparedVolume:
    """A scan as the network sees it.

    Attributes:
        tensor: (C, D, H, W) float32, at least as large as the network's window.
        placement: Where it lies on the scan.
        warnings: What could not be trusted.
    """

    tensor: np.ndarray = field(repr=False)
    placement: VolumePlacement
    warnings: tuple[str, ...]


@dataclass
class Draft:
    """A scan on its way; each step reads it and writes to it.

    Attributes:
        array: (C, D, H, W), as the steps so far leave it.
        volume: The scan as stored.
        orientation: How its axes were turned.
        spacing_mm: Of the array, along (D, H, W); None if unknown.
        warnings: Sentences for a person.
    """

    array: np.ndarray
    volume: Volume
    orientation: Orientation
    spacing_mm: tuple[float, float, float] | None
    warnings: list[str]


def prepare_volume(volume: Volume, spec: DeploymentSpec) -> PreparedVolume:
    """Run every step of a deployment on a scan, and pad it to whole logits and a window.

    Args:
        volume: The scan, not changed.
        spec: Steps, size of the window, stride of the logits.

    Raises:
        FormatError: If it has another number of channels than the network takes, or too
            many of its values are no numbers.
        GeometryError: If a step needs a spacing and there is none.
    """
    array = _check_finite(volume.array)
    if len(array) != spec.input.channels:
        raise FormatError(
            f'the scan has {len(array)} channels, bundle "{spec.name}" takes '
            f"{spec.input.channels}. Give one file a channel, in the bundle's order."
        )
    first = spec.preprocess[0] if spec.preprocess else None
    body = find_body(array.max(axis=0), first) if isinstance(first, CropBody) else None
    if body is not None:
        array = array[(slice(None), *body)]
    draft = Draft(array, volume, Orientation(), volume.spacing_mm, [])
    if isinstance(first, CropBody) and body is None:
        draft.warnings.append("no body was found; the whole scan was segmented.")
    for step in spec.preprocess:
        STEPS[type(step)](step, draft)
    depth, height, width = draft.array.shape[1:]
    placement = replace(_place(volume, draft, spec, grid=(depth, height, width)), body=body)
    tensor = placement.pad(np.ascontiguousarray(draft.array, np.float32))
    return PreparedVolume(tensor, placement, tuple(draft.warnings))


def _place(volume: Volume, draft: Draft, spec: DeploymentSpec, *, grid: Shape3) -> VolumePlacement:
    """Pad around the middle, to the window and to whole logits."""
    stride = spec.model.logit_stride
    sizes, offsets = [], []
    for size, side in zip(grid, spec.input.size_px, strict=True):
        whole = max(side, -(-size // stride) * stride)
        sizes.append(whole)
        offsets.append((whole - size) // 2)
    source = volume.array.shape[1:]
    return VolumePlacement(
        source_shape=(source[0], source[1], source[2]),
        orientation=draft.orientation,
        grid=grid,
        offset=(offsets[0], offsets[1], offsets[2]),
        tensor_shape=(sizes[0], sizes[1], sizes[2]),
    )


def _check_finite(array: np.ndarray) -> np.ndarray:
    """Set a few values that are no numbers to the smallest one; refuse many."""
    if array.dtype.kind != "f":
        return array
    finite = np.isfinite(array)
    broken = 1.0 - finite.mean()
    if broken > MAX_BROKEN_SHARE:
        raise FormatError(f"{100 * broken:.1f} % of the values of the scan are NaN or infinite.")
    return array if finite.all() else np.where(finite, array, array[finite].min())


def _orient(step: Orient, draft: Draft) -> None:
    geometry = draft.volume.geometry
    if geometry is None:
        draft.warnings.append(
            "the file does not say how the scan lies in the patient; its axes were taken as "
            "stored: left and right may be exchanged."
        )
        return
    draft.orientation = find_orientation(geometry)
    draft.array = draft.orientation.apply(draft.array)
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
    sizes = draft.array.shape[1:]
    shape = [
        max(1, round(size * old / new))
        for size, old, new in zip(sizes, draft.spacing_mm, step.spacing_mm, strict=True)
    ]
    draft.array = resize_linear(draft.array, shape)
    draft.spacing_mm = step.spacing_mm


def _window_level(step: WindowLevel, draft: Draft) -> None:
    low = step.level - step.width / 2
    draft.array = np.clip((draft.array - np.float32(low)) / np.float32(step.width), 0, 1)


def _scale_percentile(step: ScalePercentile, draft: Draft) -> None:
    channels = []
    for channel in draft.array.astype(np.float32):
        counted = channel[channel > 0]
        if not counted.size:
            draft.warnings.append("a channel of the scan has no value above 0.")
            channels.append(np.zeros_like(channel))
            continue
        low, high = np.percentile(counted, (step.low, step.high))
        if not step.low:
            low = 0.0
        channels.append(np.clip((channel - low) / max(high - low, 1e-12), 0, 1))
    draft.array = np.stack(channels).astype(np.float32)


STEPS: Mapping[type[PreprocessStep], Callable[[Any, Draft], None]] = {
    Orient: _orient,
    Resample: _resample,
    ScalePercentile: _scale_percentile,
    WindowLevel: _window_level,
    CropBody: _crop_body,
    **TONE_STEPS,
}
