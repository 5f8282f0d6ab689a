"""The pixel spacing that the user states for files without a trusted one."""

from dataclasses import replace

import numpy as np

from bedside.errors import GeometryError
from bedside.io.opened import Source
from bedside.volume import ImageSequence, scale_geometry, split_spacing

NO_SCALE = "the picture has no scale; areas are given in pixels"
"""The warning that goes with every picture, unless its scale is known from elsewhere."""

_TOLERANCE = 0.01


def state_pixel_spacing(source: Source, spacing_mm: tuple[float, float] | None) -> Source:
    """Return an image with the pixel spacing stated by the user, and a warning.

    Args:
        source: The image.
        spacing_mm: (row, column) in mm; None to leave the image as it is.

    Raises:
        GeometryError: If the file has another spacing or pixel aspect ratio.
    """
    sequence = source.sequence
    if spacing_mm is None:
        return source
    given = " x ".join(f"{each:g}" for each in spacing_mm)
    own = None if sequence.default_grid else sequence.spacing_mm
    if own is not None:
        if np.allclose(own, spacing_mm, rtol=_TOLERANCE, atol=0):
            return source
        raise GeometryError(
            f"{source.path}: its pixels are {own[0]:g} x {own[1]:g} mm apart by its header, and "
            f"{given} mm are given. Leave out the pixel spacing, or repair the header."
        )
    aspect = spacing_mm[0] / spacing_mm[1]
    if not np.isclose(sequence.pixel_aspect or aspect, aspect, rtol=_TOLERANCE):
        raise GeometryError(
            f"{source.path}: its pixels are {sequence.pixel_aspect:g} times as high as wide by its "
            f"header, and {aspect:g} times by the {given} mm given. Give row and column in order."
        )
    warning = f"the file has no pixel spacing to be trusted; {given} mm were given"
    return replace(source, sequence=rescale(sequence, spacing_mm, warnings=(warning,)))


def rescale(
    sequence: ImageSequence, spacing_mm: tuple[float, ...], *, warnings: tuple[str, ...] = ()
) -> ImageSequence:
    """Return a sequence with a spacing from another source than its file.

    Args:
        sequence: The frames.
        spacing_mm: (row, column) or (slice, row, column); without a slice the distance of slices
            is unknown.
        warnings: Added to those of the sequence.
    """
    slice_mm, pixel_mm = split_spacing(spacing_mm)
    return replace(
        sequence,
        spacing_mm=pixel_mm,
        slice_spacing_mm=slice_mm,
        third_axis="space" if sequence.has_slices else sequence.third_axis,
        geometry=sequence.geometry and scale_geometry(sequence.geometry, spacing_mm),
        default_grid=False,
        warnings=(*(text for text in sequence.warnings if text != NO_SCALE), *warnings),
    )
