"""How sure the structures of a report are, and intervals of what was measured on them."""

from collections.abc import Sequence
from dataclasses import replace

from bedside.report.areas import Span, StructureAreas
from bedside.report.record import Report
from bedside.spec.confidence import Confidence, Confidences, StructureModel


def with_intervals(
    report: Report,
    calibration: Confidence | None,
    *,
    whole: Confidences,
    frames: Sequence[Confidences],
) -> Report:
    """Return a report whose structures have their confidence, and intervals of measurements.

    Args:
        report: The report.
        calibration: Of the bundle; None for none.
        whole: Confidence of the image as a whole.
        frames: Of each frame; empty for a network that takes whole scans.
    """
    if calibration is None:
        return report
    by_frame, by_scan = (
        {model.structure: model for model in models}
        for models in (calibration.frames, calibration.scans)
    )
    structures = []
    for found in report.structures:
        intervals: dict[str, tuple[Span | None, ...]] = {}
        if (model := by_frame.get(found.name)) is not None and frames:
            intervals |= _bound_frames(found, model, frames)
        scan, sure = by_scan.get(found.name), whole.get(found.name)
        if scan is not None and sure is not None and found.volume_ml is not None:
            intervals["volume_ml"] = (
                scan.bound_measurement(
                    "volume", found.volume_ml, predicted_dice=sure.predicted_dice
                ),
            )
        known = {name: spans for name, spans in intervals.items() if any(spans)}
        structures.append(replace(found, confidence=sure, intervals=known))
    return replace(report, structures=tuple(structures))


def _bound_frames(
    found: StructureAreas, model: StructureModel, frames: Sequence[Confidences]
) -> dict[str, tuple[Span | None, ...]]:
    """Intervals of what is measured in each frame, and of the change of area."""
    dice = [
        sure.predicted_dice if (sure := frame.get(found.name)) is not None else None
        for frame in frames
    ]
    rows: dict[str, tuple[str, Sequence[float | None] | None]] = {
        "area_px": ("area", found.area_px),
        "area_cm2": ("area", found.area_cm2),
    }
    rows |= {name: (name, values) for name, values in found.measurements.items()}
    intervals = {
        key: tuple(
            None
            if value is None or each is None
            else model.bound_measurement(name, value, predicted_dice=each)
            for value, each in zip(values, dice, strict=True)
        )
        for key, (name, values) in rows.items()
        if values is not None
    }
    change = found.fractional_area_change
    if change is not None and change.fraction is not None:
        each = dice[change.largest_frame - 1]
        name = "fractional_area_change"
        if each is not None:
            ends = model.bound_measurement(name, change.fraction, predicted_dice=each)
            # From the largest to the smallest area: never below 0.
            intervals[name] = (None if ends is None else (max(ends[0], 0.0), max(ends[1], 0.0)),)
    return intervals
