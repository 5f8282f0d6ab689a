"""What planted artefacts cost: each case as it is, and again with every artefact, paired."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from bedside.datasets.case import Case, read_case
from bedside.errors import InputError
from bedside.evaluation.cases import Segmenter, segment_named
from bedside.evaluation.intervals import mean_interval
from bedside.evaluation.metrics import dice
from bedside.evaluation.planted import Artefact, list_artefacts, plant_artefact
from bedside.spec.card import Interval

LARGE_LOSS = 0.05
"""Loss of Dice in some structure that is counted case by case."""


@dataclass(frozen=True)
class Trial:
    """One case with one artefact.

    Attributes:
        case_id: Name of the case.
        patient_id: Its patient, or another independent unit.
        dice: Of each structure; None where the case does not have it, or was refused.
        refused: Whether the image was refused.
        warned: Whether there is a warning that the case without the artefact does not have.
    """

    case_id: str
    patient_id: str
    dice: tuple[float | None, ...]
    refused: bool = False
    warned: bool = False


@dataclass(frozen=True)
class ArtefactResult:
    """What one artefact costs.

    Attributes:
        name: The artefact.
        loss: Of each structure the Dice that is lost against the same case without the
            artefact; refused cases are left out.
        dice: Of each structure the mean Dice with it.
        large: Cases that lose more than `LARGE_LOSS` in some structure, as a part of those that
            were not refused.
        refused: Part of the cases that were refused.
        warned: Part of the cases that have a warning because of it.
        trials: Case by case.
    """

    name: str
    loss: tuple[Interval, ...]
    dice: tuple[float | None, ...]
    large: float
    refused: float
    warned: float
    trials: tuple[Trial, ...] = field(repr=False, default=())


@dataclass(frozen=True)
class Robustness:
    """The table of planted artefacts of a bundle on a data set.

    Attributes:
        structures: Names of the structures.
        clean: Of each structure the mean Dice without an artefact.
        artefacts: What each artefact costs.
        cases: Number of cases.
        unit: The independent unit of the intervals, in the plural.
        units: How many of them.
        seed: Seed of what was planted.
    """

    structures: tuple[str, ...]
    clean: tuple[Interval, ...]
    artefacts: tuple[ArtefactResult, ...]
    cases: int
    unit: str
    units: int
    seed: int


def evaluate_robustness(
    segmenter: Segmenter,
    cases: Sequence[Case],
    *,
    seed: int = 0,
    artefacts: Sequence[Artefact] | None = None,
    on_case: Callable[[str], None] = lambda name: None,
) -> Robustness:
    """Score every case as it is and with every artefact.

    Args:
        segmenter: The bundle, loaded.
        cases: Cases with expert labels.
        seed: Seed of what is planted.
        artefacts: What is planted; None for all that the bundle's modality has.
        on_case: Called with the name of each case that is done.

    Raises:
        DataError: If a case's labels do not fit its image or the bundle's labels.
        InputError: If an image is refused as it is.
    """
    spec = segmenter.spec
    planted = list_artefacts(spec.input.modality) if artefacts is None else tuple(artefacts)
    clean: list[Trial] = []
    spoilt: list[list[Trial]] = [[] for _ in planted]
    for case in cases:
        before = _try_clean(segmenter, case)
        clean.append(before[0])
        for artefact, trials in zip(planted, spoilt, strict=True):
            trials.append(_try_artefact(segmenter, case, artefact, before, seed=seed))
        on_case(case.case_id)
    results = [
        _summarise(artefact, trials, clean)
        for artefact, trials in zip(planted, spoilt, strict=True)
    ]
    units = [trial.patient_id for trial in clean]
    return Robustness(
        structures=tuple(label.name for label in spec.labels),
        clean=tuple(
            mean_interval([trial.dice[index] for trial in clean], units)
            for index in range(len(spec.labels))
        ),
        artefacts=tuple(results),
        cases=len(cases),
        unit=cases[0].unit,
        units=len(set(units)),
        seed=seed,
    )


def segment_spoilt(
    segmenter: Segmenter, case: Case, artefact: Artefact, *, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[str, ...]]:
    """Segment a case with an artefact planted in it.

    Returns:
        Its frames (F, C, H, W), truth and prediction (F, H, W), and the warnings.

    Raises:
        InputError: If the image is refused.
    """
    source, truth = read_case(case, tuple(label.value for label in segmenter.spec.labels))
    sequence, truth = plant_artefact(artefact, source.sequence, truth, name=case.case_id, seed=seed)
    found = segment_named(segmenter, sequence, case)
    return np.stack(list(sequence)), truth, found.labels.array, found.warnings


def _try_clean(segmenter: Segmenter, case: Case) -> tuple[Trial, tuple[str, ...]]:
    """Score a case as it is; returns its warnings too."""
    source, truth = read_case(case, tuple(label.value for label in segmenter.spec.labels))
    found = segment_named(segmenter, source.sequence, case)
    scores = _score(segmenter, truth, found.labels.array)
    return Trial(case.case_id, case.person, scores), found.warnings


def _try_artefact(
    segmenter: Segmenter,
    case: Case,
    artefact: Artefact,
    before: tuple[Trial, tuple[str, ...]],
    *,
    seed: int,
) -> Trial:
    """Score a case with an artefact."""
    try:
        _, truth, prediction, warnings = segment_spoilt(segmenter, case, artefact, seed=seed)
    except InputError:
        none = (None,) * len(segmenter.spec.labels)
        return Trial(case.case_id, case.person, none, refused=True)
    scores = _score(segmenter, truth, prediction)
    # A structure that is drawn although the case has none of it has no Dice in either.
    warned = bool(set(warnings) - set(before[1]))
    return Trial(case.case_id, case.person, scores, warned=warned)


def _score(
    segmenter: Segmenter, truth: np.ndarray, prediction: np.ndarray
) -> tuple[float | None, ...]:
    """Dice of each structure, all frames together; None where the truth does not have it."""
    scores: list[float | None] = []
    for label in segmenter.spec.labels:
        expected = truth == label.value
        scores.append(dice(expected, prediction == label.value) if expected.any() else None)
    return tuple(scores)


def _summarise(
    artefact: Artefact, trials: Sequence[Trial], clean: Sequence[Trial]
) -> ArtefactResult:
    """Means over cases, with intervals over independent units."""
    units = [trial.patient_id for trial in trials]
    losses = [
        [
            None if new is None or old is None else old - new
            for new, old in zip(trial.dice, before.dice, strict=True)
        ]
        for trial, before in zip(trials, clean, strict=True)
    ]
    columns = list(zip(*losses, strict=True))
    kept = [
        [loss for loss in row if loss is not None]
        for row, trial in zip(losses, trials, strict=True)
        if not trial.refused
    ]
    large = [max(row, default=0.0) > LARGE_LOSS for row in kept]
    return ArtefactResult(
        name=artefact.name,
        loss=tuple(mean_interval(column, units) for column in columns),
        dice=tuple(
            mean_interval([trial.dice[index] for trial in trials], units).mean
            for index in range(len(columns))
        ),
        large=float(np.mean(large)) if large else 0.0,
        refused=float(np.mean([trial.refused for trial in trials])),
        warned=float(np.mean([trial.warned for trial in trials])),
        trials=tuple(trials),
    )
