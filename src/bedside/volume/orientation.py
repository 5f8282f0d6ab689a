"""Orientation of the axes of a scan relative to those of the patient."""

import itertools
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from bedside.volume.geometry import Geometry

Value = TypeVar("Value")

# Rows of an LPS affine that the axes (D, H, W) of an oriented scan run along: slices to the
# head, rows to the back, columns to the left, as in an axial DICOM series.
_PATIENT_AXES = (2, 1, 0)


@dataclass(frozen=True)
class Orientation:
    """A permutation and reversal of axes that aligns an array with the patient.

    Attributes:
        order: For each axis of the oriented array, the axis of the stored one.
        reversed: For each axis of the oriented array, whether its direction is reversed.
    """

    order: tuple[int, int, int] = (0, 1, 2)
    reversed: tuple[bool, bool, bool] = (False, False, False)

    def apply(self, array: np.ndarray) -> np.ndarray:
        """Return a view of an array with its axes reordered and reversed.

        Args:
            array: (..., D, H, W).

        Example:
            >>> Orientation((0, 2, 1), (False, True, False)).apply(np.ones((5, 2, 3, 4))).shape
            (5, 2, 4, 3)
        """
        first = array.ndim - 3
        axes = [*range(first), *(first + axis for axis in self.order)]
        return self._turn(array.transpose(axes))

    def undo(self, array: np.ndarray) -> np.ndarray:
        """Return a view of an oriented array with its axes as stored.

        Args:
            array: (..., D, H, W), in the order that `apply` returns.

        Example:
            >>> orientation = Orientation((2, 0, 1), (True, False, True))
            >>> x = np.arange(24).reshape(2, 3, 4)
            >>> bool((orientation.undo(orientation.apply(x)) == x).all())
            True
        """
        first = array.ndim - 3
        back = np.argsort(self.order)
        axes = [*range(first), *(first + int(axis) for axis in back)]
        return self._turn(array).transpose(axes)

    def reorder(self, values: tuple[Value, Value, Value]) -> tuple[Value, Value, Value]:
        """Return one value per axis in the order of the oriented array.

        Args:
            values: One per axis, in the stored order.
        """
        first, second, third = (values[axis] for axis in self.order)
        return first, second, third

    def _turn(self, array: np.ndarray) -> np.ndarray:
        axes = tuple(a for a, turned in enumerate(self.reversed, array.ndim - 3) if turned)
        return np.flip(array, axes)


def find_orientation(geometry: Geometry) -> Orientation:
    """Return the axes closest to the head, back and left directions.

    Args:
        geometry: Of an array (D, H, W).

    Example:
        >>> axial = np.diag([1.0, 1.0, -2.0, 1.0])[:, [2, 1, 0, 3]]
        >>> find_orientation(Geometry((4, 5, 6), axial, space="LPS"))
        Orientation(order=(0, 1, 2), reversed=(True, False, False))
    """
    directions = geometry.affine[:3, :3] / np.linalg.norm(geometry.affine[:3, :3], axis=0)
    cosines = directions[list(_PATIENT_AXES)]
    best = max(
        itertools.permutations(range(3)),
        key=lambda order: sum(abs(cosines[row, axis]) for row, axis in enumerate(order)),
    )
    first, second, third = best
    turned = [bool(cosines[row, axis] < 0) for row, axis in enumerate(best)]
    return Orientation((first, second, third), (turned[0], turned[1], turned[2]))
