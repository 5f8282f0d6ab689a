"""Sides of the patient at the edges of a picture, as on films: R, L, A, P, H and F."""

import numpy as np

from bedside.report.captions import draw_text
from bedside.spec.deployment import FILMED
from bedside.volume import Geometry, ImageSequence

# Names of directions along the axes of LPS, forwards and backwards.
_LETTERS = (("L", "R"), ("P", "A"), ("H", "F"))
# Cosine from which on a direction has a part of another axis too.
_OBLIQUE = 0.2


def has_sides(sequence: ImageSequence, modality: str) -> bool:
    """Whether the edges of a picture lie to sides of the patient: not of a film or a photograph.

    Args:
        sequence: The frames.
        modality: Of the bundle, in DICOM's words.
    """
    known = sequence.geometry is not None and not sequence.default_grid
    return known and (sequence.modality or modality) not in FILMED


def name_edges(geometry: Geometry | None) -> tuple[str, str]:
    """What the left and the top edge of a slice lie to, in DICOM's letters.

    L and R are the patient's left and right, A and P front and back, H and F head and feet; of an
    oblique slice the larger part comes first.

    Example:
        >>> name_edges(Geometry((9, 4, 4), np.eye(4)[:, [2, 1, 0, 3]], space="LPS"))
        ('R', 'A')
    """
    if geometry is None:
        return "", ""
    down, across = geometry.affine[:3, 1], geometry.affine[:3, 2]
    return _name_direction(-across), _name_direction(-down)


def _name_direction(direction: np.ndarray) -> str:
    parts = direction / np.linalg.norm(direction)
    order = np.argsort(-np.abs(parts), kind="stable")[:2]
    named = [_LETTERS[axis][int(parts[axis] < 0)] for axis in order if abs(parts[axis]) > _OBLIQUE]
    return "".join(named)


def write_sides(picture: np.ndarray, sides: tuple[str, str]) -> None:
    """Write what the left and the top edge lie to onto a picture, in place.

    Args:
        picture: (height, width, 3) uint8, RGB.
        sides: For the left and the top edge; "" for nothing.
    """
    height, width = picture.shape[:2]
    for name, (row, column) in zip(sides, ((0.5, 0.0), (0.0, 0.5)), strict=True):
        if not name:
            continue
        text = draw_text(name)
        tall, wide = text.shape
        if tall + 4 > height or wide + 4 > width:
            continue
        top, left = 2 + round(row * (height - tall - 4)), 2 + round(column * (width - wide - 4))
        place = picture[top : top + tall, left : left + wide]
        # Dark around the letters, which lie on bright tissue too.
        place[:] = np.maximum((place * 0.4).astype(np.uint8), text[..., None])
