"""Measurements of a frame that has just been segmented: area and length of each structure."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import cv2
import numpy as np

from bedside.pipeline.confidence import ConfidenceEstimator
from bedside.report.diameter import measure_diameter_mm
from bedside.spec import Label
from bedside.spec.confidence import Confidences, StructureConfidence, StructureModel
from bedside.stream.event import Measurement

AREA, LENGTH = "area", "diameter"
"""Names under which a bundle is calibrated for measurements."""


def measure_frame(
    labels: np.ndarray,
    structures: Sequence[Label],
    *,
    spacing_mm: tuple[float, float] | None,
    sure: Confidences | None = None,
    estimator: ConfidenceEstimator | None = None,
) -> Mapping[str, Measurement]:
    """Measure every structure.

    Args:
        labels: (H, W) uint8.
        structures: What the values mean.
        spacing_mm: (row, column) distance of pixels; None if unknown.
        sure: How far each mask is to be trusted.
        estimator: What the bundle is calibrated for; None for nothing.

    Example:
        >>> from bedside.spec import Code
        >>> code = Code("1", "SCT", "x")
        >>> head = Label(1, "Head", (1, 2, 3), code, code)
        >>> found = measure_frame(np.ones((1, 4), np.uint8), [head], spacing_mm=(5.0, 10.0))
        >>> found["Head"]
        Measurement(area_px=4, area_cm2=2.0, length_px=4.0, length_mm=40.0, intervals={})
    """
    found = {each.name: _measure(labels, each.value, spacing_mm) for each in structures}
    if estimator is None or not sure:
        return found
    return {
        name: replace(each, intervals=_bound(each, estimator.find_model(name), sure.get(name)))
        for name, each in found.items()
    }


def _bound(
    found: Measurement, model: StructureModel | None, sure: StructureConfidence | None
) -> Mapping[str, tuple[float, float]]:
    """Intervals of measurements, by attribute."""
    if model is None or sure is None:
        return {}
    values = {
        "area_px": (AREA, found.area_px), "area_cm2": (AREA, found.area_cm2),
        "length_px": (LENGTH, found.length_px), "length_mm": (LENGTH, found.length_mm),
    }  # fmt: skip
    return bound_values(model, values, predicted_dice=sure.predicted_dice)


def bound_values(
    model: StructureModel,
    values: Mapping[str, tuple[str, float | None]],
    *,
    predicted_dice: float,
) -> Mapping[str, tuple[float, float]]:
    """Return intervals by key, of those that the model is calibrated for.

    Args:
        model: Of the structure that was measured.
        values: For each key the name under which a bundle is calibrated, and the value; None for
            no value.
        predicted_dice: Of the mask that it was measured on.
    """
    found = {}
    for key, (name, value) in values.items():
        if value is not None:
            ends = model.bound_measurement(name, value, predicted_dice=predicted_dice)
            if ends is not None:
                found[key] = ends
    return found


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
