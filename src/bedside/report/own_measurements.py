"""Measurements of one kind of structure alone, a row of the table each: head circumference."""

from collections.abc import Callable, Mapping

import numpy as np

from bedside.report.ellipse import fit_head
from bedside.spec import Label
from bedside.volume import LabelMap

HEAD = ("head_circumference_mm", "head_long_axis_mm", "head_short_axis_mm")

Measure = Callable[[np.ndarray, tuple[float, float]], Mapping[str, float | None]]


def measure_head(mask: np.ndarray, spacing_mm: tuple[float, float]) -> Mapping[str, float | None]:
    """Measure the circumference of a head, and the axes of the ellipse that it is taken along.

    Args:
        mask: (height, width) bool.
        spacing_mm: (row, column) distance in mm.

    Returns:
        Three lengths in mm, None where the outline has no ellipse.
    """
    ellipse = fit_head(mask, spacing_mm)
    if ellipse is None:
        return dict.fromkeys(HEAD)
    long, short = ellipse.semi_axes_mm
    return dict(zip(HEAD, (ellipse.circumference_mm, 2 * long, 2 * short), strict=True))


MEASURES: Mapping[tuple[str, str], Measure] = {("SCT", "69536005"): measure_head}
"""What is measured on one frame of a structure, by scheme and value of the structure's code."""


def measure_structure(labels: LabelMap, structure: Label) -> Mapping[str, tuple[float | None, ...]]:
    """Measure a structure frame by frame; nothing without a scale, or if the table has no row.

    Args:
        labels: The labels, with the spacing of their pixels if it can be trusted.
        structure: Which structure it is.

    Returns:
        By name of the measurement, which ends in its unit, one number for each frame.
    """
    measure = MEASURES.get((structure.type.scheme, structure.type.value))
    spacing_mm = labels.spacing_mm
    if measure is None or spacing_mm is None:
        return {}
    measured = [measure(frame == structure.value, spacing_mm) for frame in labels.array]
    return {
        name: tuple(None if (mm := each[name]) is None else round(mm, 2) for each in measured)
        for name in measured[0]
    }
