"""Measurements on a segmentation, compared with those of experts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bedside.datasets.case import Case
from bedside.datasets.hc18 import CIRCUMFERENCE
from bedside.evaluation.intervals import mean_interval
from bedside.report.own_measurements import Measure, measure_head
from bedside.spec.card import Interval


@dataclass(frozen=True)
class Measurement:
    """How a measurement is made.

    Attributes:
        title: What it is called.
        label: Value of the label that it is made on.
        measure: From a mask and its spacing to measurements by name; this is one of them.
    """

    title: str
    label: int
    measure: Measure


MEASUREMENTS: Mapping[str, Measurement] = {
    CIRCUMFERENCE: Measurement("Head circumference", label=1, measure=measure_head),
}
"""By the name under which a case has a reference."""


@dataclass(frozen=True)
class Measured:
    """One measurement of one case.

    Attributes:
        reference: What the experts measured.
        predicted: What is measured on the prediction; None if it cannot be.
        on_truth: What is measured in the same way on the experts' mask; likewise.
    """

    reference: float
    predicted: float | None
    on_truth: float | None


@dataclass(frozen=True)
class MeasurementResult:
    """One measurement of a data set; means over cases with intervals by patient.

    Attributes:
        name: Its key in `MEASUREMENTS`, which ends in its unit.
        title: What it is called.
        cases: Cases with a reference.
        missing: Cases of these in which nothing could be measured on the prediction.
        absolute_error: Mean absolute difference between prediction and reference.
        bias: Mean of prediction minus reference.
        floor: Mean absolute difference between the experts' own masks and the reference:
            the error of the measurement itself; expect no segmentation to have a smaller one.
    """

    name: str
    title: str
    cases: int
    missing: int
    absolute_error: Interval
    bias: Interval
    floor: Interval


def measure_case(
    case: Case,
    truth: np.ndarray,
    prediction: np.ndarray,
    *,
    spacing_mm: tuple[float, ...] | None,
) -> dict[str, Measured]:
    """Measure all that a case has a reference for.

    Args:
        case: The case, with what experts measured.
        truth: (1, height, width) labels; nothing is measured on a film or a scan.
        prediction: The same, on the same grid.
        spacing_mm: (row, column) distance in mm; without one nothing is measured.

    Returns:
        By name of the measurement.
    """
    if spacing_mm is None or len(spacing_mm) != 2 or truth.ndim != 3 or len(truth) != 1:
        return {}
    row_mm, column_mm = spacing_mm
    measured = {}
    for name in case.reference.keys() & MEASUREMENTS.keys():
        how = MEASUREMENTS[name]
        predicted, on_truth = (
            how.measure(labels[0] == how.label, (row_mm, column_mm))[name]
            for labels in (prediction, truth)
        )
        measured[name] = Measured(case.reference[name], predicted, on_truth)
    return measured


def summarise_measurements(
    measured: Sequence[Mapping[str, Measured]], patients: Sequence[str], *, seed: int = 0
) -> tuple[MeasurementResult, ...]:
    """Average every measurement that some case has.

    Args:
        measured: Output of `measure_case` for each case.
        patients: The patient of each case.
        seed: Seed of the bootstrap.
    """
    results = []
    for name, how in MEASUREMENTS.items():
        chosen = [
            (case[name], patient)
            for case, patient in zip(measured, patients, strict=True)
            if name in case
        ]
        if not chosen:
            continue
        owners = [patient for _, patient in chosen]
        errors = [_difference(each.predicted, each.reference) for each, _ in chosen]
        floors = [_difference(each.on_truth, each.reference) for each, _ in chosen]
        results.append(
            MeasurementResult(
                name=name,
                title=how.title,
                cases=len(chosen),
                missing=sum(error is None for error in errors),
                absolute_error=mean_interval(_absolute(errors), owners, seed=seed),
                bias=mean_interval(errors, owners, seed=seed),
                floor=mean_interval(_absolute(floors), owners, seed=seed),
            )
        )
    return tuple(results)


def _difference(value: float | None, reference: float) -> float | None:
    return None if value is None else value - reference


def _absolute(errors: Sequence[float | None]) -> list[float | None]:
    return [None if error is None else abs(error) for error in errors]
