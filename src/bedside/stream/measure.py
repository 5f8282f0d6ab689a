"""Measurements of a frame that has just been segmented: area and length of each structure."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from bedside.report.diameter import measure_diameter_mm
from bedside.spec import Label
from bedside.stream.event import Measurement


def measure_frame(
    labels: np.ndarray, structures: Sequence[Label], *, spacing_mm: tuple[float, float] | None
) -> Mapping[str, Measurement]:
    """Measure every structure.

    Args:
        labels: (H, W) uint8.
        structures: What the values mean.
        spacing_mm: (row, column) distance of pixels; None if unknown.

    Example:
        >>> from bedside.spec import Code
        >>> code = Code("1", "SCT", "x")
        >>> head = Label(1, "Head", (1, 2, 3), code, code)
        >>> found = measure_frame(np.ones((1, 4), np.uint8), [head], spacing_mm=(5.0, 10.0))
        >>> found["Head"]
        Measurement(area_px=4, area_cm2=2.0, length_px=4.0, length_mm=40.0)
    """
    return {each.name: _measure(labels, each.value, spacing_mm) for each in structures}


def _measure(labels: np.ndarray, value: int, spacing_mm: tuple[float, float] | None) -> Measurement:
    mask = cv2.inRange(labels, value, value)
    left, top, width, height = cv2.boundingRect(mask)
    mask = mask[top : top + height, left : left + width]
    area = cv2.countNonZero(mask) if width else 0
    cm2 = None if spacing_mm is None else round(area * spacing_mm[0] * spacing_mm[1] / 100, 4)
    if not area:
        return Measurement(0, cm2, 0.0, None if spacing_mm is None else 0.0)
    part = mask > 0
    length = measure_diameter_mm(part, (1.0, 1.0))
    if spacing_mm is None:
        return Measurement(area, cm2, round(length, 2), None)
    row_mm, column_mm = spacing_mm
    is_even = row_mm == column_mm
    length_mm = length * row_mm if is_even else measure_diameter_mm(part, spacing_mm)
    return Measurement(area, cm2, round(length, 2), round(length_mm, 2))
