"""Frame steps on colour, crop and size."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np

from bedside.errors import ModalityError, SpecError
from bedside.pipeline.body import find_body
from bedside.pipeline.frames.builder import FramePlanBuilder, Image
from bedside.pipeline.frames.fan import bounding_box, find_fan
from bedside.pipeline.frames.transform import ALIGNMENT
from bedside.spec import CropBody, CropCentre, CropFan, Fit, Grey, Rgb
from bedside.volume import Box

DOPPLER_SHARE = 0.02
"""Part of strongly coloured pixels that is more than a logo or a mark, and is warned of."""
STRONG_COLOUR = 24
"""Difference between the largest and the smallest of R, G, B that makes a pixel coloured."""
# Logarithm of the ratio of sides up to which pixels are square: spacings are rounded.
_SQUARE = 0.01


def _plan_grey(step: Grey, builder: FramePlanBuilder) -> None:
    coloured = max(_colour_share(image) for image in builder.sample)
    if coloured > step.max_colour:
        message = (
            f"{100 * coloured:.0f} % of the pixels are strongly coloured, "
            f"at most {100 * step.max_colour:.0f} % are expected of {builder.input.modality}: "
            "this looks like a colour photograph"
        )
        if not builder.force:
            raise ModalityError(f"{message}. Pass --force to segment it anyway.")
        builder.warnings.append(f"{message}; it was segmented because that was forced.")
    elif coloured > DOPPLER_SHARE:
        builder.warnings.append(
            f"{100 * coloured:.0f} % of the pixels are strongly coloured, as by Doppler: the "
            "network knows grey images only, do not rely on its labels."
        )
    # In float the last bit may depend on where a row begins.
    builder.add(_to_grey, pointwise=builder.sample[0].dtype == np.uint8)


def _to_grey(image: Image) -> Image:
    return image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)


def _plan_rgb(step: Rgb, builder: FramePlanBuilder) -> None:
    builder.add(_to_rgb, pointwise=True)


def _to_rgb(image: Image) -> Image:
    return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB) if image.ndim == 2 else image


def _colour_share(image: Image) -> float:
    if image.ndim == 2:
        return 0.0
    # Plane by plane: numpy takes twenty times as long along an axis of three.
    red, green, blue = cv2.split(image)
    spread = cv2.max(cv2.max(red, green), blue) - cv2.min(cv2.min(red, green), blue)
    return float((spread > STRONG_COLOUR).mean())


def _plan_crop_fan(step: CropFan, builder: FramePlanBuilder) -> None:
    whole = Box(0, 0, *builder.transform.source_shape)
    if builder.transform.box != whole:
        raise SpecError("crop_fan looks at the whole frame; move it in front of crop_centre.")
    builder.check_unscaled("crop_fan")
    builder.keep(builder.region or whole)
    outline = find_fan(builder.sample, floor=step.floor)
    if outline is None:
        if not builder.region:
            builder.warnings.append(
                "no ultrasound sector was found; the whole image was segmented, do not rely on it."
            )
        return
    inner = bounding_box(outline, margin=step.margin)
    mask = outline[inner.slices].copy()
    builder.keep(inner)
    builder.add(lambda image: cv2.bitwise_and(image, mask))


def _plan_crop_centre(step: CropCentre, builder: FramePlanBuilder) -> None:
    builder.check_unscaled("crop_centre")
    seen = builder.transform.box
    height, width = step.find_size(seen.height, seen.width)
    top, left = (seen.height - height) // 2, (seen.width - width) // 2
    builder.keep(Box(top, left, top + height, left + width))


def _plan_crop_body(step: CropBody, builder: FramePlanBuilder) -> None:
    builder.check_unscaled("crop_body")
    grey = [image if image.ndim == 2 else image.max(axis=-1) for image in builder.sample]
    found = find_body(np.max(grey, axis=0), step)
    if found is None:
        builder.warnings.append("no body was found; the whole image was segmented.")
        return
    rows, columns = found
    builder.keep(Box(rows.start, columns.start, rows.stop, columns.stop))


def _plan_fit(step: Fit, builder: FramePlanBuilder) -> None:
    box, (height, width) = builder.transform.box, builder.input.size_px
    stretch = step.stretch * builder.aspect
    scale = min(height / (box.height * stretch), width / box.width)
    inner_height = _align(box.height * stretch * scale, limit=height)
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

    builder.add(fit)
    if builder.aspect != 1:
        builder.warnings.append(describe_aspect(builder.aspect))


def find_aspect(spacing_mm: Sequence[float] | None) -> float:
    """Height of a pixel by its width; 1 where it is not known, or square to a hundredth.

    Args:
        spacing_mm: (row, column) in mm, or relative to each other; None if unknown.

    Example:
        >>> find_aspect((0.308, 0.154)), find_aspect((0.308, 0.307)), find_aspect(None)
        (2.0, 1.0, 1.0)
    """
    if spacing_mm is None:
        return 1.0
    aspect = float(spacing_mm[0]) / float(spacing_mm[1])
    return 1.0 if abs(math.log(aspect)) <= _SQUARE else aspect


def describe_aspect(aspect: float) -> str:
    """A sentence about pixels that are not square."""
    sides = ("high", "wide") if aspect > 1 else ("wide", "high")
    return (
        f"pixels are {max(aspect, 1 / aspect):.2f} times as {sides[0]} as {sides[1]}, by the file: "
        "the network was shown them in their true shape."
    )


def _align(length: float, *, limit: int) -> int:
    """Round a length to the alignment of transforms, at least one step, at most `limit`."""
    return min(limit, max(ALIGNMENT, round(length / ALIGNMENT) * ALIGNMENT))


GEOMETRY_PLANNERS: Mapping[type, Callable[[Any, FramePlanBuilder], None]] = {
    Grey: _plan_grey,
    Rgb: _plan_rgb,
    CropFan: _plan_crop_fan,
    CropCentre: _plan_crop_centre,
    CropBody: _plan_crop_body,
    Fit: _plan_fit,
}
