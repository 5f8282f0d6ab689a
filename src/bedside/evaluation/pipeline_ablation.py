"""Accuracy and time of a deployment with and without each step of its pipeline."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bedside.datasets.case import Case, read_case
from bedside.evaluation.cases import (
    CaseResult,
    Evaluation,
    Segmenter,
    lay_out,
    score_case,
    segment_named,
    summarise,
)
from bedside.evaluation.intervals import mean_interval
from bedside.evaluation.pipeline_variants import Required, Variant, list_variants
from bedside.spec.card import Interval
from bedside.spec.deployment import DeploymentSpec

SMALLEST_DICE = 0.0005
"""Difference of Dice below which none is called better or worse, however certain."""
SMALLEST_MM = 0.02
"""The same of HD95."""


@dataclass(frozen=True)
class Difference:
    """Difference between a variant and the deployment, case by case.

    Attributes:
        dice: Of Dice; above 0 is better.
        hd95_mm: Of HD95 in mm, over cases where both have one; below 0 is better.
    """

    dice: Interval
    hd95_mm: Interval


@dataclass(frozen=True)
class VariantResult:
    """Result of one variant.

    Attributes:
        variant: Which.
        evaluation: Its scores.
        overall: Its difference in the mean over structures.
        structures: Its difference structure by structure, by name.
        preprocess_ms: Median over frames, or over scans taken whole.
        postprocess_ms: Likewise; logits to labels on the source grid, refined and repaired.
        network_ms: Likewise.
        p95_ms: 95th percentile of pre- and postprocessing together.
    """

    variant: Variant
    evaluation: Evaluation
    overall: Difference
    structures: dict[str, Difference]
    preprocess_ms: float
    postprocess_ms: float
    network_ms: float
    p95_ms: float

    @property
    def verdict(self) -> str:
        """Sentence about the steps that make a certain and relevant difference."""
        each = [self.overall, *self.structures.values()]
        dice = [difference.dice for difference in each]
        hd95 = [difference.hd95_mm for difference in each]
        better = _any_clear(dice, 1, SMALLEST_DICE) or _any_clear(hd95, -1, SMALLEST_MM)
        worse = _any_clear(dice, -1, SMALLEST_DICE) or _any_clear(hd95, 1, SMALLEST_MM)
        if self.variant.kind == "as it is":
            return ""
        if self.overall.dice.low is None:
            return f"too few {self.evaluation.unit}"
        if better and worse:
            return "mixed"
        if self.variant.kind == "without":
            return "worse without: keep" if worse else "better without" if better else "no loss"
        return "worse with" if worse else "better with" if better else "no gain"


@dataclass(frozen=True)
class PipelineAblation:
    """All variants, on the same cases.

    Attributes:
        results: The deployment as it is first.
        required: Steps that were not dropped.
    """

    results: tuple[VariantResult, ...]
    required: tuple[Required, ...]


def ablate_pipeline(
    open_variant: Callable[[DeploymentSpec], Segmenter],
    spec: DeploymentSpec,
    cases: Sequence[Case],
    *,
    on_case: Callable[[str], None] | None = None,
) -> PipelineAblation:
    """Return accuracy and time of every variant, interleaved case by case.

    Args:
        open_variant: Gives a segmenter for a deployment; the network is the same for all.
        spec: The deployment as it is.
        cases: What to score.
        on_case: Called with its name after each case, to show progress.

    Raises:
        DataError: If a case's labels do not fit its image or the bundle's labels.
        InputError: If an image cannot be read or segmented.
    """
    variants, required = list_variants(spec)
    segmenters = [open_variant(variant.spec) for variant in variants]
    scored: list[list[CaseResult]] = [[] for _ in variants]
    spans: list[list[np.ndarray]] = [[] for _ in variants]
    values = tuple(label.value for label in spec.labels)
    for number, case in enumerate(cases):
        source, truth = read_case(case, values)
        for turn in range(len(variants)):
            # Another one goes first each time: the first finds the caches cold.
            index = (turn + number) % len(variants)
            found = segment_named(segmenters[index], source.sequence, case)
            expected, prediction, spacing_mm = lay_out(source.sequence, truth, found)
            scored[index].append(
                score_case(
                    case, expected, prediction, spacing_mm=spacing_mm,
                    labels=spec.labels, regions=spec.regions,
                )
            )  # fmt: skip
            stages = ("preprocess", "network", "postprocess")
            spans[index].append(np.stack([found.stage_ms[stage] for stage in stages]))
        if on_case is not None:
            on_case(case.case_id)
    results = [
        _result(variant, mine, scored[0], np.concatenate(times, axis=1))
        for variant, mine, times in zip(variants, scored, spans, strict=True)
    ]
    return PipelineAblation(tuple(results), tuple(required))


def _result(
    variant: Variant, mine: list[CaseResult], plain: list[CaseResult], stage_ms: np.ndarray
) -> VariantResult:
    """Sum one variant up beside the deployment as it is."""
    names = list(plain[0].structures)
    medians = np.median(stage_ms, axis=1)
    return VariantResult(
        variant=variant,
        evaluation=summarise(mine),
        overall=_difference(mine, plain, names),
        structures={name: _difference(mine, plain, [name]) for name in names},
        preprocess_ms=float(medians[0]),
        network_ms=float(medians[1]),
        postprocess_ms=float(medians[2]),
        p95_ms=float(np.percentile(stage_ms[0] + stage_ms[2], 95)),
    )


def _difference(mine: list[CaseResult], plain: list[CaseResult], names: list[str]) -> Difference:
    """Subtract case by case, averaged over structures, and give means with intervals."""
    patients = [case.patient_id for case in plain]

    def differ(metric: str) -> Interval:
        values = []
        for one, other in zip(mine, plain, strict=True):
            pairs = [
                (getattr(one.structures[name], metric), getattr(other.structures[name], metric))
                for name in names
            ]
            known = [a - b for a, b in pairs if a is not None and b is not None]
            values.append(float(np.mean(known)) if known else None)
        return mean_interval(values, patients)

    return Difference(dice=differ("dice"), hd95_mm=differ("hd95_mm"))


def _any_clear(intervals: list[Interval], sign: int, smallest: float) -> bool:
    """Whether a difference is certainly of one sign, and large enough to matter."""
    for each in intervals:
        if each.mean is None or each.low is None or each.high is None:
            continue
        if (each.low if sign > 0 else -each.high) > 0 and sign * each.mean >= smallest:
            return True
    return False
