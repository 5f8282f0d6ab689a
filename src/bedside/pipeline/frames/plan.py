"""From decoded frame to tensor: each step is planned once for a sequence, then run per frame."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np

from bedside.errors import FormatError
from bedside.pipeline.frames.builder import UNIFORM, FramePlanBuilder, Image, Stage
from bedside.pipeline.frames.geometry_steps import GEOMETRY_PLANNERS, find_aspect
from bedside.pipeline.frames.intensity_steps import INTENSITY_PLANNERS
from bedside.pipeline.frames.kind import FrameKind, check_decoded, find_kind
from bedside.pipeline.frames.transform import FrameTransform
from bedside.pipeline.value_range import check_numbers, plan_bytes
from bedside.spec import (
    DeploymentSpec,
    InputSpec,
    PreprocessStep,
    ScaleMedian,
    ScalePercentile,
    WindowLevel,
    WindowPreset,
)
from bedside.volume import Box, ImageSequence

SAMPLE_FRAMES = 16
"""Frames looked at, evenly spread over a sequence, before its preprocessing is planned."""


@dataclass(frozen=True)
class FramePlan:
    """The preprocessing of one sequence: every step with its numbers.

    Attributes:
        crop: Part of the decoded frame that the first stage takes.
        stages: Functions from image to image, in order.
        steps: For each step of the spec its functions by themselves, crops among them; those
            from the frame to 8 bits come first.
        transform: Where the tensor lies on the source frame.
        input: What the network takes.
        warnings: What could not be trusted.
        kind: What frames it was made for.
        mirrored: Whether the network is to see the frames mirrored left to right.
    """

    crop: Box
    stages: tuple[Stage, ...]
    steps: tuple[tuple[Stage, ...], ...]
    transform: FrameTransform
    input: InputSpec
    warnings: tuple[str, ...]
    kind: FrameKind
    mirrored: bool = False

    def trace(self, frame: np.ndarray) -> Iterator[tuple[Stage, Image]]:
        """Run the steps one by one on a whole frame, as the spec lists them.

        Args:
            frame: As in `apply`.

        Yields:
            What turns a frame into 8 bits, if it must be, and the image that it gives; then the
            same of each step.
        """
        image = _channels_last(frame, Box(0, 0, *frame.shape[1:]))
        for stages in self.steps:
            step = functools.partial(_run_all, stages)
            image = step(image)
            yield step, image

    def apply(self, frame: np.ndarray, *, out: np.ndarray | None = None) -> np.ndarray:
        """Turn one frame into the network's input.

        Args:
            frame: (C, H, W) as decoded, of the kind that was planned for; not changed. Colour
                is fastest as a view of (H, W, C), which decoders write.
            out: Array that the result is written to; None for a new one.

        Returns:
            (1, channels, height, width) float32.

        Raises:
            FrameError: If it has another shape, or its numbers are stored otherwise.
            FormatError: If too many of its values are no numbers.
        """
        self.kind.check(frame)
        check_numbers(frame)
        image = _channels_last(frame, self.crop)
        image = _run_all(self.stages, image)
        planes = channels_first(image)
        if out is None:
            return np.ascontiguousarray(planes[None], dtype=np.float32)
        out[0] = planes
        return out


_MERGED = [np.dtype(kind) for kind in ("u1", "u2", "i2", "i4", "f4", "f8")]
"""Numbers, in the machine's byte order, that OpenCV lays together."""


def stack_neighbours(sequence: ImageSequence, count: int) -> ImageSequence:
    """Add the frames before and after each frame as channels; the ends are repeated.

    Of uneven slices they are the next ones that do not lie at the same place. A frame in time
    has no neighbours in space, and is repeated instead.

    Args:
        sequence: Of grey frames, (1, H, W) each.
        count: Frames on each side; 0 leaves the sequence as it is.

    Raises:
        FormatError: If its frames have more than one channel.
    """
    if not count:
        return sequence
    frames, channels, height, width = sequence.shape
    if channels != 1:
        raise FormatError(f"frames have {channels} channels; this bundle takes grey frames.")

    def in_order(index: int, by: int) -> int:
        if sequence.third_axis == "time":
            return index
        return min(max(index + by, 0), frames - 1)

    find_neighbour = in_order if sequence.uneven is None else sequence.uneven.find_neighbour

    def decode(index: int) -> np.ndarray:
        around = range(-count, count + 1)
        return np.concatenate([sequence.decode(find_neighbour(index, by)) for by in around])

    return replace(sequence, shape=(frames, 2 * count + 1, height, width), decode=decode)


def plan_sequence(
    sequence: ImageSequence, spec: DeploymentSpec, *, force: bool = False
) -> FramePlan:
    """Plan the preprocessing of a sequence from a few of its frames.

    Raises:
        ModalityError: As `plan_preprocess`.
        FormatError: As `plan_preprocess`.
    """
    sample = list(sample_frames(sequence, SAMPLE_FRAMES))
    check_decoded(sequence, *sample)
    return plan_preprocess(
        spec.preprocess, sample, input_spec=spec.input, region=sequence.region, force=force,
        aspect=find_aspect(sequence.proportions),
    )  # fmt: skip


def sample_frames(sequence: ImageSequence, most: int) -> Iterator[np.ndarray]:
    """Decode some frames, (C, H, W), evenly spread over a sequence, `most` at most."""
    count = min(len(sequence), most)
    for index in np.linspace(0, len(sequence) - 1, count).round().astype(int):
        yield sequence.decode(int(index))


def plan_preprocess(
    steps: Sequence[PreprocessStep],
    sample: Sequence[np.ndarray],
    *,
    input_spec: InputSpec,
    region: Box | None = None,
    force: bool = False,
    aspect: float = 1.0,
) -> FramePlan:
    """Plan every preprocessing step from some frames of a sequence.

    Args:
        steps: What is to be done, in order.
        sample: (C, H, W) frames, at least one, not changed.
        input_spec: What the network takes.
        region: Where the file says that the image proper lies, checked; or None.
        force: Go on where the frames look like another kind of image.
        aspect: Height of a pixel by its width, as `find_aspect` has it.

    Raises:
        ModalityError: If the frames are colour photographs, and `force` is off.
        FormatError: If too many of their values are no numbers, they are neither grey nor
            colour, or not of one size.
        SpecError: If a step cuts the image after another has scaled it.
    """
    reads_window = bool(steps) and isinstance(steps[0], WindowLevel | WindowPreset)
    apart = len(input_spec.channel_names) or None
    kind = find_kind(sample, any_numbers=reads_window, channels=apart)
    for frame in sample:
        check_numbers(frame)
    height, width = kind.shape[1:]
    whole = Box(0, 0, height, width)
    transform = FrameTransform((height, width), box=whole, inner=whole)
    images = [_channels_last(frame, whole) for frame in sample]
    builder = FramePlanBuilder(images, transform, input_spec, region, force, whole, aspect)
    builder.steps.append([])
    if not reads_window:
        # A window comes first and reads values as stored; every other step takes 8 bits.
        plan = _plan_channels if _are_channels_apart(steps) else plan_bytes
        to_bytes, builder.warnings = plan(images, modality=input_spec.modality, force=force)
        if to_bytes is not None:
            builder.add(to_bytes, pointwise=True)
    level = sample[0].flat[0]
    if level and all(frame.min() == level == frame.max() for frame in sample):
        builder.warnings.append(UNIFORM)
    for step in steps:
        builder.steps.append([])
        PLANNERS[type(step)](step, builder)
    return FramePlan(
        crop=builder.crop,
        stages=tuple(builder.stages),
        steps=tuple(map(tuple, builder.steps)),
        transform=builder.transform,
        input=input_spec,
        warnings=tuple(builder.warnings),
        kind=kind,
    )


def _are_channels_apart(steps: Sequence[PreprocessStep]) -> bool:
    """Whether channels are images of their own, with values of their own."""
    return any(
        isinstance(step, ScaleMedian) or (isinstance(step, ScalePercentile) and step.per_channel)
        for step in steps
    )


def _plan_channels(
    sample: Sequence[Image], *, modality: str, force: bool
) -> tuple[Stage | None, list[str]]:
    """Plan 8 bits as `plan_bytes` does, for each channel by itself."""
    count = 1 if sample[0].ndim == 2 else sample[0].shape[-1]
    if count == 1:
        return plan_bytes(sample, modality=modality, force=force)
    found = [
        plan_bytes([image[..., channel] for image in sample], modality=modality, force=force)
        for channel in range(count)
    ]
    warnings = list(dict.fromkeys(text for _, texts in found for text in texts))
    stages = [stage for stage, _ in found if stage is not None]
    if len(stages) < count:  # all are of one type, so that all are of 8 bits
        return None, warnings

    def to_bytes(image: Image) -> Image:
        return cv2.merge([stage(image[..., number]) for number, stage in enumerate(stages)])

    return to_bytes, warnings


def _run_all(stages: Sequence[Stage], image: Image) -> Image:
    return functools.reduce(lambda before, stage: stage(before), stages, image)


def channels_first(image: Image) -> np.ndarray:
    """An image, (H, W) or (H, W, C), as (C, H, W); a view."""
    return image[None] if image.ndim == 2 else np.moveaxis(image, -1, 0)


def _channels_last(frame: np.ndarray, crop: Box) -> Image:
    """Part of a frame, (C, H, W), as an image, (H, W) or (H, W, C); a view where memory allows."""
    part = frame[(slice(None), *crop.slices)]
    image: Image = part[0] if len(part) == 1 else np.moveaxis(part, 0, -1)
    if image.ndim == 2 or image.strides[-1] == image.itemsize or image.dtype not in _MERGED:
        return image
    # Planes apart in memory: OpenCV would copy such a view pixel by pixel.
    interleaved: Image = cv2.merge(list(part))
    return interleaved


PLANNERS: Mapping[type, Callable[[Any, FramePlanBuilder], None]] = {
    **GEOMETRY_PLANNERS,
    **INTENSITY_PLANNERS,
}
