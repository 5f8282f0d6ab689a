"""Accuracy: metrics in mm, the loop over cases, confidence intervals, the report."""

from bedside.evaluation.cases import (
    METRICS,
    CaseResult,
    Evaluation,
    Scores,
    evaluate_cases,
    score_case,
    summarise,
)
from bedside.evaluation.intervals import mean_interval
from bedside.evaluation.metrics import SurfaceDistances, dice, iou, surface_distances

__all__ = [
    "METRICS",
    "CaseResult",
    "Evaluation",
    "Scores",
    "SurfaceDistances",
    "dice",
    "evaluate_cases",
    "iou",
    "mean_interval",
    "score_case",
    "summarise",
    "surface_distances",
]
