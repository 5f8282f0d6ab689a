"""From decoded frame to tensor: each step is planned once for a sequence, then run per frame."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np

from bedside.errors import FormatError, ModalityError, SpecError
from bedside.pipeline.body import find_body
from bedside.pipeline.fan import bounding_box, find_fan
from bedside.pipeline.frame_kind import FrameKind, check_decoded, find_kind
from bedside.pipeline.frame_steps import BLACK, INTENSITY_PLANNERS, open_window
from bedside.pipeline.frame_transform import ALIGNMENT, FrameTransform
from bedside.pipeline.value_range import (
    check_hounsfield,
    check_numbers,
    find_range,
    plan_bytes,
)
from bedside.spec import (
    CropBody,
    CropCentre,
    CropFan,
    DeploymentSpec,
    Fit,
    Grey,
    InputSpec,
    PreprocessStep,
    Rgb,
    ScalePercentile,
    WindowLevel,
    WindowPreset,
)
from bedside.volume import Box, ImageSequence

Image = np.ndarray
Stage = Callable[[Image], Image]

DOPPLER_SHARE = 0.02
"""Part of strongly coloured pixels that is more than a logo or a mark, and is warned of."""
STRONG_COLOUR = 24
"""Difference between the largest and the smallest of R, G, B that makes a pixel coloured."""


@dataclass
class FramePlanBuilder:
    """What planning knows so far; each step reads it and writes to it.

    Attributes:
        sample: Some frames of the sequence, as the steps planned so far leave them.
        transform: Where they lie on the source.
        input: What the network takes.
        region: Where the file says that the image proper lies, or None.
        force: Whether doubts are warnings instead of errors.
        warnings: Sentences for a person.
    """

    sample: list[Image]
    transform: FrameTransform
    input: InputSpec
    region: Box | None
    force: bool
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class FramePlan:
    """All steps with their numbers filled in, for one sequence.

    Attributes:
        stages: Functions from image to image, in order.
        transform: Where the tensor lies on the source frame.
        input: What the network takes.
        warnings: What could not be trusted.
        kind: What frames it was made for.
        open: From a frame as decoded to the image that the first stage takes.
    """

    stages: tuple[Stage, ...]
    transform: FrameTransform
    input: InputSpec
    warnings: tuple[str, ...]
    kind: FrameKind
    open: Stage

    def apply(self, frame: np.ndarray) -> np.ndarray:
        """Turn one frame into the network's input.

        Args:
            frame: (C, H, W) as decoded, of the kind that was planned for; not changed.

        Returns:
            (1, channels, height, width) float32.

        Raises:
            FrameError: If it has another shape, or its numbers are stored otherwise.
            FormatError: If too many of its values are no numbers.
        """
        self.kind.check(frame)
        image = self.open(frame)
        for stage in self.stages:
            image = stage(image)
        planes = image[None] if image.ndim == 2 else np.moveaxis(image, -1, 0)
        return np.ascontiguousarray(planes[None], dtype=np.float32)


SAMPLE_FRAMES = 8
"""Frames looked at, evenly spread over a sequence, before its preprocessing is planned."""


def stack_neighbours(sequence: ImageSequence, count: int) -> ImageSequence:
    """Give every frame those before and after it as channels; the ends are repeated.

    Of uneven slices they are the next ones that do not lie at the same place. A frame of a film
    lies between no others, and stands for its neighbours itself.

    Args:
        sequence: Of grey frames, (1, H, W) each.
        count: Frames on each side; 0 leaves the cine as it is.

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
    """Look at a few frames of a cine and fill in the numbers of a deployment's steps.

    Raises:
        ModalityError: As `plan_preprocess`.
        FormatError: As `plan_preprocess`.
    """
    count = min(len(sequence), SAMPLE_FRAMES)
    indices = np.linspace(0, len(sequence) - 1, count).round().astype(int)
    sample = [sequence.decode(int(index)) for index in indices]
    check_decoded(sequence, *sample)
    return plan_preprocess(
        spec.preprocess, sample, input_spec=spec.input, region=sequence.region, force=force
    )


def plan_preprocess(
    steps: Sequence[PreprocessStep],
    sample: Sequence[np.ndarray],
    *,
    input_spec: InputSpec,
    region: Box | None = None,
    force: bool = False,
) -> FramePlan:
    """Fill in the numbers of every step from some frames of a sequence.

    Args:
        steps: What is to be done, in order.
        sample: (C, H, W) frames, at least one, not changed.
        input_spec: What the network takes.
        region: Where the file says that the image proper lies, checked; or None.
        force: Go on where the frames look like another kind of image.

    Raises:
        ModalityError: If the frames are colour photographs, and `force` is off.
        FormatError: If too many of their values are no numbers, they are neither grey nor
            colour, or not of one size.
        SpecError: If a step cuts the image after another has scaled it.
    """
    reads_window = bool(steps) and isinstance(steps[0], WindowLevel | WindowPreset)
    kind = find_kind(sample, any_numbers=reads_window)
    opener, doubts = _choose_opener(steps, sample, input_spec, force=force)
    images = [opener(frame) for frame in sample]
    height, width = images[0].shape[:2]
    whole = Box(0, 0, height, width)
    transform = FrameTransform((height, width), box=whole, inner=whole)
    builder = FramePlanBuilder(images, transform, input_spec, region, force, doubts)
    stages = []
    for step in steps:
        stage = PLANNERS[type(step)](step, builder)
        builder.sample = [stage(image) for image in builder.sample]
        stages.append(stage)
    return FramePlan(
        tuple(stages), builder.transform, input_spec, tuple(builder.warnings), kind, opener
    )


def _choose_opener(
    steps: Sequence[PreprocessStep], sample: Sequence[np.ndarray], spec: InputSpec, *, force: bool
) -> tuple[Stage, list[str]]:
    """Read frames through a window if that comes first, which 8 bits would cut; else in 8 bits.

    Returns:
        From a frame as decoded to an image, and warnings.

    Raises:
        FormatError: If the values are not what the bundle takes.
    """
    first = steps[0] if steps else None
    if not isinstance(first, WindowLevel | WindowPreset):
        return plan_bytes(sample, modality=spec.modality, force=force)
    window = open_window(first)
    doubt = None
    if spec.modality == "CT":
        doubt = check_hounsfield(*find_range(sample), width=first.width)

    def opened(frame: np.ndarray) -> Image:
        check_numbers(frame)
        return window(frame)

    return opened, [doubt] if doubt else []


def _plan_grey(step: Grey, builder: FramePlanBuilder) -> Stage:
    coloured = max(_colour_share(image) for image in builder.sample)
    if coloured > step.max_colour:
        message = (
            f"{100 * coloured:.0f} % of the pixels are strongly coloured, "
            f"at most {100 * step.max_colour:.0f} % are expected of {builder.input.modality}: "
            "this looks like a colour photograph"
        )
        if not builder.force:
            raise ModalityError(f"{message}. Pass --force to go on all the same.")
        builder.warnings.append(f"{message}; it was segmented because that was forced.")
    elif coloured > DOPPLER_SHARE:
        builder.warnings.append(
            f"{100 * coloured:.0f} % of the pixels are strongly coloured, as by Doppler: the "
            "network knows grey images only, do not rely on its labels."
        )
    return _to_grey


def _to_grey(image: Image) -> Image:
    return image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)


def _plan_rgb(step: Rgb, builder: FramePlanBuilder) -> Stage:
    return _to_rgb


def _to_rgb(image: Image) -> Image:
    return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB) if image.ndim == 2 else image


def _colour_share(image: Image) -> float:
    if image.ndim == 2:
        return 0.0
    spread = image.max(axis=-1).astype(np.int16) - image.min(axis=-1)
    return float((spread > STRONG_COLOUR).mean())


def _plan_crop_fan(step: CropFan, builder: FramePlanBuilder) -> Stage:
    height, width = builder.transform.source_shape
    if builder.transform.box != Box(0, 0, height, width):
        raise SpecError("crop_fan looks at the whole frame; move it in front of crop_centre.")
    _check_unscaled("crop_fan", builder)
    allowed = builder.region or Box(0, 0, height, width)
    outline = find_fan([image[allowed.slices] for image in builder.sample], floor=step.floor)
    if outline is None:
        if not builder.region:
            builder.warnings.append(
                "no ultrasound sector was found; the whole image was segmented, do not rely on it."
            )
        builder.transform = _cropped(builder.transform, allowed)
        return lambda image: image[allowed.slices]
    inner = bounding_box(outline, margin=step.margin)
    mask = outline[inner.slices].copy()
    box = Box(
        top=allowed.top + inner.top,
        left=allowed.left + inner.left,
        bottom=allowed.top + inner.bottom,
        right=allowed.left + inner.right,
    )
    builder.transform = _cropped(builder.transform, box)
    return lambda image: cv2.bitwise_and(image[box.slices], mask)


def _plan_crop_centre(step: CropCentre, builder: FramePlanBuilder) -> Stage:
    seen = builder.transform.box
    _check_unscaled("crop_centre", builder)
    height, width = min(step.size_px[0], seen.height), min(step.size_px[1], seen.width)
    top, left = (seen.height - height) // 2, (seen.width - width) // 2
    kept = Box(top, left, top + height, left + width)
    box = Box(seen.top + top, seen.left + left, seen.top + kept.bottom, seen.left + kept.right)
    builder.transform = _cropped(builder.transform, box)
    return lambda image: image[kept.slices]


def _plan_crop_body(step: CropBody, builder: FramePlanBuilder) -> Stage:
    seen = builder.transform.box
    _check_unscaled("crop_body", builder)
    grey = [image if image.ndim == 2 else image.max(axis=-1) for image in builder.sample]
    found = find_body(np.max(grey, axis=0), step)
    if found is None:
        builder.warnings.append("no body was found; the whole image was segmented.")
        return lambda image: image
    rows, columns = found
    kept = Box(rows.start, columns.start, rows.stop, columns.stop)
    box = Box(seen.top + kept.top, seen.left + kept.left, seen.top + kept.bottom,
              seen.left + kept.right)  # fmt: skip
    builder.transform = _cropped(builder.transform, box)
    return lambda image: image[kept.slices]


def _check_unscaled(step: str, builder: FramePlanBuilder) -> None:
    """Refuse to cut what no longer has the source's own pixels.

    Raises:
        SpecError: If the image has been scaled.
    """
    box = builder.transform.box
    if builder.transform.inner != Box(0, 0, box.height, box.width):
        raise SpecError(f"{step} cuts the source's own pixels; move it in front of fit.")


def _cropped(transform: FrameTransform, box: Box) -> FrameTransform:
    """Place a part of the source unscaled."""
    return replace(transform, box=box, inner=Box(0, 0, box.height, box.width))


def _plan_fit(step: Fit, builder: FramePlanBuilder) -> Stage:
    box, (height, width) = builder.transform.box, builder.input.size_px
    scale = min(height / (box.height * step.stretch), width / box.width)
    inner_height = _align(box.height * step.stretch * scale, limit=height)
    inner_width = _align(box.width * scale, limit=width)
    top = (height - inner_height) // (2 * ALIGNMENT) * ALIGNMENT
    left = (width - inner_width) // (2 * ALIGNMENT) * ALIGNMENT
    inner = Box(top, left, top + inner_height, left + inner_width)
    builder.transform = replace(builder.transform, inner=inner)
    method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR

    def fit(image: Image) -> Image:
        canvas = np.zeros((height, width, *image.shape[2:]), image.dtype)
        size = (inner.width, inner.height)
        canvas[inner.slices] = cv2.resize(image, size, interpolation=method)
        return canvas

    return fit


def _align(length: float, *, limit: int) -> int:
    """Round a length to the alignment of placements, at least one step, at most `limit`."""
    return min(limit, max(ALIGNMENT, round(length / ALIGNMENT) * ALIGNMENT))


def _plan_scale_percentile(step: ScalePercentile, builder: FramePlanBuilder) -> Stage:
    # One scale for the whole sequence: a flicker of the gain would be seen as motion.
    counts = [np.bincount(image.ravel(), minlength=256) for image in builder.sample]
    cumulative = np.cumsum(np.sum(counts, axis=0)[1:])
    if cumulative[-1] == 0:
        builder.warnings.append(BLACK)
        return lambda image: image.astype(np.float32) / 255
    low = 1 + int(np.searchsorted(cumulative, step.low / 100 * cumulative[-1])) if step.low else 0
    high = 1 + int(np.searchsorted(cumulative, step.high / 100 * cumulative[-1]))
    span = max(high - low, 255 / step.max_gain)
    table = np.clip((np.arange(256) - low) / span, 0, 1).astype(np.float32)
    return lambda image: cv2.LUT(image, table)


PLANNERS: Mapping[type, Callable[[Any, FramePlanBuilder], Stage]] = {
    Grey: _plan_grey,
    Rgb: _plan_rgb,
    CropFan: _plan_crop_fan,
    CropCentre: _plan_crop_centre,
    CropBody: _plan_crop_body,
    Fit: _plan_fit,
    ScalePercentile: _plan_scale_percentile,
    **INTENSITY_PLANNERS,
}
