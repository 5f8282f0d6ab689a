"""The place of images in messages: a matrix of the axes and the centre, in RAS or LPS."""

from collections.abc import Sequence

import numpy as np

from bedside.errors import MessageError
from bedside.volume import Geometry, Space

_SPACES: dict[int, Space] = {1: "RAS", 2: "LPS"}
_FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])


def encode_place(geometry: Geometry, space: Space) -> tuple[int, list[float]]:
    """The number of a space, and the 12 numbers of a grid (D, H, W) in it.

    Raises:
        MessageError: If there is no such space.
    """
    if space not in _SPACES.values():
        raise MessageError(f'the space is {space!r}; expected "LPS" or "RAS".')
    affine = geometry.affine if space == "LPS" else _FLIP @ geometry.affine
    centre = affine @ [*((np.array(geometry.shape) - 1) / 2), 1]
    matrix = np.concatenate([affine[:3, 2], affine[:3, 1], affine[:3, 0], centre[:3]])
    return (1 if space == "RAS" else 2), matrix.tolist()


def decode_place(
    coord: int, matrix: Sequence[float], grid: tuple[int, ...]
) -> tuple[Geometry, Space]:
    """The geometry that 12 numbers state for a grid (D, H, W), and its space.

    Raises:
        MessageError: If the number of the space is none.
        GeometryError: If the numbers are no place.
    """
    if coord not in _SPACES:
        raise MessageError(f"the image has coordinates {coord}; expected 1 (RAS) or 2 (LPS).")
    affine = np.eye(4)
    affine[:3] = np.reshape(matrix, (4, 3))[[2, 1, 0, 3]].T
    affine[:3, 3] -= affine[:3, :3] @ ((np.array(grid) - 1) / 2)
    return Geometry(grid, affine, space=_SPACES[coord]), _SPACES[coord]


def check_part(offset: tuple[int, ...], shape: tuple[int, ...], grid: tuple[int, ...]) -> None:
    """Check that a part lies within its grid.

    Raises:
        MessageError: If it does not, or is empty.
    """
    triples = zip(offset, shape, grid, strict=True)
    if not all(0 <= low < low + size <= whole for low, size, whole in triples):
        raise MessageError(
            f"the part at {offset} of {shape} is empty or leaves the grid {grid} of the image."
        )
