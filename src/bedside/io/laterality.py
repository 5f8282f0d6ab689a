"""Left and right: an image that does not say where it lies cannot tell one from the other."""

import re
from collections.abc import Sequence

from bedside.errors import GeometryError
from bedside.io.formats import FORMATS
from bedside.io.opened import Source
from bedside.spec import Label

_SIDES = {"left": "right", "right": "left", "l": "r", "r": "l"}


def check_sides(source: Source, labels: Sequence[Label], *, force: bool = False) -> None:
    """Refuse a scan without a place in the patient for labels that are told apart by side.

    Only formats that can place an image are asked; an ultrasound film or a photograph lies
    nowhere, and is taken as the bundle's card describes its view.

    Args:
        source: The image.
        labels: What will be drawn on it.
        force: Go on; the warning that the header does not place the image stays.

    Raises:
        GeometryError: If its header does not say how it lies, and two labels differ only in
            their side.
    """
    pair = find_sides(labels)
    if force or pair is None or _is_placed(source):
        return
    raise GeometryError(
        f"{source.path}: its header does not say how the image lies in the patient, so "
        f'"{pair[0]}" cannot be told from "{pair[1]}". Repair the header, or pass --force.'
    )


def find_sides(labels: Sequence[Label]) -> tuple[str, str] | None:
    """Find two labels that are the same structure on the two sides of the body.

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


def _is_placed(source: Source) -> bool:
    """Whether an image of a format that can say where it lies does so."""
    if not FORMATS[source.kind].has_place:
        return True
    return source.header is not None and bool(source.header.in_patient)
