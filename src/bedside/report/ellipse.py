"""An ellipse along the outline of a mask, and how long it is: the head's circumference."""

from dataclasses import dataclass, replace

import cv2
import numpy as np

FEWEST_POINTS = 5
"""Points that an ellipse needs."""

_LINE_INSET_PX = 0.5


@dataclass(frozen=True)
class Ellipse:
    """An ellipse in millimetres.

    Attributes:
        centre_mm: (row, column) from the middle of the first pixel.
        semi_axes_mm: Half the longer and half the shorter diameter.
        angle_deg: From the direction of columns to the longer axis, towards rows, in [0, 180).
    """

    centre_mm: tuple[float, float]
    semi_axes_mm: tuple[float, float]
    angle_deg: float

    @property
    def circumference_mm(self) -> float:
        """Length of the outline.

        Source:
            The second approximation of Ramanujan 1914, "Modular equations and approximations
            to pi"; for heads its error is far below a micrometre.

        Example:
            >>> round(Ellipse((0.0, 0.0), (10.0, 10.0), 0.0).circumference_mm, 6)
            62.831853
        """
        long, short = self.semi_axes_mm
        excess = 3 * ((long - short) / (long + short)) ** 2
        return float(np.pi * (long + short) * (1 + excess / (10 + np.sqrt(4 - excess))))


def fit_ellipse(mask: np.ndarray, spacing_mm: tuple[float, float]) -> Ellipse | None:
    """Fit an ellipse to the outline of a mask's largest part.

    The outline is taken where pixels of the mask meet pixels outside it, half-way between
    their centres: through the centres of the outermost pixels it would be half a pixel too
    small all around. Where the mask touches the border of the image it may go on beyond, so
    that border is no outline.

    Args:
        mask: (height, width) bool.
        spacing_mm: (row, column) distance in mm.

    Returns:
        The ellipse of least algebraic distance, fitted in mm, so that pixels need not be
        square; None if the outline has too few points for one.
    """
    outline = _outline(_largest(mask))
    if len(outline) < FEWEST_POINTS:
        return None
    rows, columns = (outline * spacing_mm).astype(np.float32).T
    points = np.column_stack([columns, rows])
    (column, row), diameters, angle = cv2.fitEllipse(points)
    first, second = diameters
    if not 0 < min(diameters) < max(diameters) * 1e6 < np.inf:
        return None
    # The angle is that of the first diameter, which need not be the longer one.
    turned = angle if first >= second else angle + 90
    axes = (max(diameters) / 2, min(diameters) / 2)
    return Ellipse((float(row), float(column)), axes, float(turned % 180))


def fit_head(mask: np.ndarray, spacing_mm: tuple[float, float]) -> Ellipse | None:
    """Fit the ellipse of a head as the experts of HC18 drew it; None where there is none.

    They drew an ellipse along the skull, and its line is part of the mask: what they measured
    is the middle of the line, half a pixel within the mask's edge. Over 798 of their masks the
    circumference comes out 0.14 mm from theirs in the mean, and 1.02 mm too long along the edge.

    Args:
        mask: (height, width) bool.
        spacing_mm: (row, column) distance in mm.
    """
    ellipse = fit_ellipse(mask, spacing_mm)
    if ellipse is None:
        return None
    inset_mm = _LINE_INSET_PX * (spacing_mm[0] + spacing_mm[1]) / 2
    long, short = (axis - inset_mm for axis in ellipse.semi_axes_mm)
    return replace(ellipse, semi_axes_mm=(long, short)) if short > 0 else None


def _largest(mask: np.ndarray) -> np.ndarray:
    """Keep the largest connected part of a mask, with its holes filled."""
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    filled = np.zeros(mask.shape, np.uint8)
    if outlines:
        largest = max(outlines, key=cv2.contourArea)
        cv2.drawContours(filled, [largest], -1, 1, cv2.FILLED)
    return filled > 0


def _outline(mask: np.ndarray) -> np.ndarray:
    """Collect the points half-way between neighbours of which one is in the mask.

    Returns:
        (points, 2) row and column in pixels.
    """
    below = np.argwhere(mask[1:] != mask[:-1]) + np.array([0.5, 0.0])
    run_in_background = np.argwhere(mask[:, 1:] != mask[:, :-1]) + np.array([0.0, 0.5])
    return np.concatenate([below, run_in_background])
