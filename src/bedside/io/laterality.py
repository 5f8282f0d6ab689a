"""Left and right: structures that differ by side need an image with a place in the patient."""

import re
from collections.abc import Sequence

from bedside.errors import GeometryError
from bedside.io.formats import FORMATS
from bedside.io.opened import Source
from bedside.spec import Label
from bedside.volume import ImageSequence

_SIDES = {"left": "right", "right": "left", "l": "r", "r": "l"}


def check_sides(
    image: Source | ImageSequence, labels: Sequence[Label], *, force: bool = False
) -> None:
    """Refuse an image without a place in the patient for labels that differ by side only.

    Files are checked only in formats that can place an image; ultrasound cines and photographs
    have no place, and the bundle's card describes their view.

    Args:
        image: An opened file, or a scan in memory.
        labels: The labels to be drawn.
        force: Skip the check; the warning of the missing place remains.

    Raises:
        GeometryError: If the image has no place and two labels differ by side only.
    """
    pair = find_sides(labels)
    if force or pair is None or _is_placed(image):
        return
    name, way_out = "the scan", "Give it an affine (ImageSequence.from_array)"
    if isinstance(image, Source):
        name, way_out = f"{image.path}: its header", "Repair the header"
    raise GeometryError(
        f"{name} does not say how the image lies in the patient, so "
        f'"{pair[0]}" cannot be told from "{pair[1]}". {way_out}, or pass --force.'
    )


def find_sides(labels: Sequence[Label]) -> tuple[str, str] | None:
    """Return two labels that are one structure on the left and right side; None if there are none.

    Example:
        >>> from bedside.spec import Code
        >>> code = Code("1", "99X", "x")
        >>> names = ("Left kidney", "Right kidney")
        >>> find_sides([Label(i + 1, n, (0, 0, 0), code, code) for i, n in enumerate(names)])
        ('Left kidney', 'Right kidney')
    """
    words = {label.name: tuple(re.findall(r"[^\W_]+", label.name.lower())) for label in labels}
    names = {parts: name for name, parts in words.items()}
    for name, parts in words.items():
        mirrored = tuple(_SIDES.get(part, part) for part in parts)
        if mirrored != parts and mirrored in names:
            return name, names[mirrored]
    return None


def _is_placed(image: Source | ImageSequence) -> bool:
    """Whether an image has a place in the patient, or its format cannot have one."""
    if isinstance(image, ImageSequence):
        return image.geometry is not None
    if not FORMATS[image.kind].has_place:
        return True
    return image.header is not None and bool(image.header.in_patient)
