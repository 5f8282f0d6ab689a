"""An image that a program has in hand, in any form: opened as a source."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from numpy.typing import ArrayLike

from bedside.errors import GeometryError, UsageError
from bedside.io.opened import Source
from bedside.io.read_options import ReadOptions
from bedside.volume import ImageSequence, Space, split_spacing

if TYPE_CHECKING:
    from bedside.io.given import Given

Image: TypeAlias = "Given | Sequence[Given] | np.ndarray | ImageSequence | Source"
"""One image: a file in any form, an array, or what is open already."""

ARRAY_GIVEN = Path("the array given")
# Its row of the table of formats: labels become NIfTI, with the place that the array has.
_ARRAY_KIND = "metaimage"


def open_image(
    image: Image,
    *,
    read: ReadOptions,
    affine: ArrayLike | None = None,
    space: Space | None = None,
    spacing_mm: Sequence[float] | None = None,
    modality: str | None = None,
) -> Source:
    """Open an image.

    Args:
        image: A file in a form that `bedside.io.source.open_source` takes; an array, see
            `ImageSequence.from_array`; an `ImageSequence` or a `Source`.
        read: How files are opened.
        affine: Of an array: (4, 4), from an index in array order to mm.
        space: Which space the affine is in.
        spacing_mm: (row, column) distance of pixels in mm, where the image has none; of an array
            without an affine also (slice, row, column).
        modality: Of an array: DICOM's word for the kind of image.

    Raises:
        UsageError: If it is none of these, or an argument goes with an array and it is none.
        InputError: If the image is refused.
    """
    if isinstance(image, np.ndarray):
        sequence = ImageSequence.from_array(
            image,
            affine=affine,
            space=space,
            spacing_mm=read.pixel_spacing_mm if spacing_mm is None else spacing_mm,
            modality=modality,
            third_axis=None if read.third_axis == "auto" else read.third_axis,
        )
        return Source(ARRAY_GIVEN, _ARRAY_KIND, sequence, None)
    for name, value in {"affine": affine, "space": space, "modality": modality}.items():
        if value is not None:
            raise UsageError(f"{name} goes with an array; a {type(image).__name__} has its own.")
    if spacing_mm is not None:
        slice_mm, pixel_mm = split_spacing(spacing_mm)
        if slice_mm is not None:
            raise GeometryError(f"spacing_mm is {spacing_mm}; expected (row, column) for a file.")
        read = replace(read, pixel_spacing_mm=pixel_mm)
    if isinstance(image, ImageSequence):
        image = Source(ARRAY_GIVEN, _ARRAY_KIND, image, None)
    return read.complete(image) if isinstance(image, Source) else read.open(image)
