"""The loop over cases: segment, score every structure on the image's own grid, summarise."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import numpy as np

from bedside.datasets.case import Case, read_case
from bedside.errors import InputError
from bedside.evaluation.intervals import mean_interval
from bedside.evaluation.measurements import (
    Measured,
    MeasurementResult,
    measure_case,
    summarise_measurements,
)
from bedside.evaluation.metrics import dice, iou, surface_distances
from bedside.io.even_grid import lay_evenly
from bedside.spec.card import MIN_UNITS, StructureResult, count_units
from bedside.spec.deployment import DeploymentSpec, Label, Region
from bedside.volume import LabelMap

if TYPE_CHECKING:
    from bedside.pipeline.protocol import Segmentation
    from bedside.volume import ImageSequence

METRICS = ("dice", "iou", "asd_mm", "hd95_mm", "hd_mm")
"""Fields of `Scores` and of `StructureResult`, in the order of every table."""

_MOST_WARNINGS = 20


class Segmenter(Protocol):
    """The part of `bedside.segment.Segmenter` that evaluation needs."""

    @property
    def spec(self) -> "DeploymentSpec":
        """The deployment, for its labels."""

    def segment_sequence(self, sequence: "ImageSequence", *, force: bool = False) -> "Segmentation":
        """Label every frame."""


@dataclass(frozen=True)
class Scores:
    """Scores of one structure in one case.

    Attributes:
        dice: Dice over all frames together; None without the structure in the truth.
        iou: Intersection over union, likewise.
        asd_mm: Average symmetric surface distance, a mean over the frames in which truth
            and prediction both have the structure; None without such a frame or a spacing.
        hd95_mm: 95th percentile of the Hausdorff distance, likewise.
        hd_mm: Hausdorff distance, likewise.
        one_sided: Frames in which only one of truth and prediction has the structure, which
            have no distance.
        false_alarm: Whether it was predicted in a case without it.
    """

    dice: float | None
    iou: float | None
    asd_mm: float | None
    hd95_mm: float | None
    hd_mm: float | None
    one_sided: int = 0
    false_alarm: bool = False


@dataclass(frozen=True)
class CaseResult:
    """The scores of one case.

    Attributes:
        case_id: Name of the case.
        patient_id: Its patient, or another independent unit.
        structures: Scores by name, labels in their order and then regions.
        frames: Number of frames.
        spacing_mm: (row, column) distance in mm that was used, or (slice, row, column)
            if a scan was measured as a whole; or None.
        measured: Measurements, and those of experts, by name.
        unit: What `patient_id` names, in the plural.
    """

    case_id: str
    patient_id: str
    structures: Mapping[str, Scores]
    frames: int
    spacing_mm: tuple[float, ...] | None
    measured: Mapping[str, Measured] = field(default_factory=dict)
    unit: str = "patients"

    @property
    def mean_dice(self) -> float | None:
        """Mean over the structures that the case has; None if it has none."""
        known = [score.dice for score in self.structures.values() if score.dice is not None]
        return float(np.mean(known)) if known else None


@dataclass(frozen=True)
class Evaluation:
    """The scores of a data set.

    Attributes:
        structures: Mean and interval of every metric, a structure each.
        cases: Scores case by case, in the order given.
        warnings: What the scores leave out or depend on, in sentences.
        measurements: Errors of measurements, if the data set has those of experts.
    """

    structures: tuple[StructureResult, ...]
    cases: tuple[CaseResult, ...]
    warnings: tuple[str, ...] = ()
    measurements: tuple[MeasurementResult, ...] = ()

    @property
    def unit(self) -> str:
        """The independent unit, in the plural, such as "patients"."""
        return self.cases[0].unit

    @property
    def unit_count(self) -> int:
        """How many independent units the cases come from."""
        return len({case.patient_id for case in self.cases})

    @property
    def units(self) -> str:
        """The same in words: "16 patients"."""
        return count_units(self.unit_count, self.unit)

    def worst(self, count: int) -> list[CaseResult]:
        """Return the cases with the lowest mean Dice, lowest first.

        Cases without any structure come last, those with the most false alarms first.
        """

        def rank(case: CaseResult) -> tuple[float, int]:
            alarms = sum(score.false_alarm for score in case.structures.values())
            return (math.inf if case.mean_dice is None else case.mean_dice, -alarms)

        return sorted(self.cases, key=rank)[:count]


def evaluate_cases(
    segmenter: Segmenter,
    cases: Sequence[Case],
    *,
    on_case: Callable[[CaseResult], None] | None = None,
) -> Evaluation:
    """Segment every case and compare it with the experts' labels.

    Truth and prediction are compared on the image's own grid. One case is in
    memory at a time.

    Args:
        segmenter: The bundle, loaded.
        cases: What to score.
        on_case: Called after each case, to show progress.

    Returns:
        Scores by case, means with intervals, and warnings.

    Raises:
        DataError: If a case's labels do not fit its image or the bundle's labels.
        InputError: If an image cannot be read or segmented.
    """
    labels, regions = segmenter.spec.labels, segmenter.spec.regions
    results, noticed = [], Counter[str]()
    for case in cases:
        source, truth = read_case(case, tuple(label.value for label in labels))
        segmentation = segment_named(segmenter, source.sequence, case)
        noticed.update(segmentation.warnings)
        truth, prediction, spacing_mm = lay_out(source.sequence, truth, segmentation)
        result = score_case(
            case, truth, prediction, spacing_mm=spacing_mm, labels=labels, regions=regions
        )
        results.append(result)
        if on_case is not None:
            on_case(result)
    warned = [f"{text} ({count} of {len(results)} cases)" for text, count in noticed.most_common()]
    if len(warned) > _MOST_WARNINGS:
        warned[_MOST_WARNINGS:] = [f"{len(warned) - _MOST_WARNINGS} more warnings are left out."]
    return summarise(results, warnings=warned)


def score_case(
    case: Case,
    truth: np.ndarray,
    prediction: np.ndarray,
    *,
    spacing_mm: tuple[float, ...] | None,
    labels: Sequence[Label],
    regions: Sequence[Region] = (),
) -> CaseResult:
    """Compare two label maps, structure by structure.

    Overlap counts the pixels of all frames together, so a frame without the structure has
    no weight. Distances are measured within each frame, since the distance between
    frames is a time, or is not known, and averaged over frames.

    Args:
        case: Names the result; its files are not opened.
        truth: (frames, height, width) label values, or (1, D, H, W) for one scan.
        prediction: The same, on the same grid.
        spacing_mm: Distance in mm along the axes after the first; None if unknown, for no
            distances.
        labels: The structures to score.
        regions: Unions of labels to score after them.

    Returns:
        Scores by name.

    Raises:
        GeometryError: If the grids differ.
    """
    structures: tuple[Label | Region, ...] = (*labels, *regions)
    scores = {
        each.name: _score(_mask(truth, each), _mask(prediction, each), spacing_mm)
        for each in structures
    }
    measured = measure_case(case, truth, prediction, spacing_mm=spacing_mm)
    return CaseResult(
        case.case_id, case.person, scores, len(truth), spacing_mm, measured, unit=case.unit
    )


def summarise(
    results: Sequence[CaseResult], *, warnings: Iterable[str] = (), seed: int = 0
) -> Evaluation:
    """Return means over cases, with intervals over independent units, and warnings.

    Overlap is averaged over the cases that have the structure: a case without it has no Dice, and
    counting it as 1 would favour rare structures.

    Args:
        results: At least one case.
        warnings: Earlier warnings.
        seed: Seed of the bootstrap.

    Returns:
        The results with their means. A distance that no case has is all None.
    """
    patients = [case.patient_id for case in results]
    structures, warned = [], [*warnings, *_too_few_units(results)]
    unscaled = sum(case.spacing_mm is None for case in results)
    if unscaled:
        warned.append(
            f"{unscaled} of {len(results)} cases have no spacing that can be trusted; "
            "distances in mm leave them out."
        )
    for name in results[0].structures:
        scores = [case.structures[name] for case in results]
        intervals = {
            metric: mean_interval([getattr(score, metric) for score in scores], patients, seed=seed)
            for metric in METRICS
        }
        absent = [score for score in scores if score.dice is None]
        alarms = sum(score.false_alarm for score in absent)
        structures.append(
            StructureResult(
                name=name,
                **intervals,
                cases=len(scores) - len(absent),
                absent=len(absent),
                false_alarms=alarms,
            )
        )
        warned.extend(_absent(name, len(absent), alarms, of_cases=len(scores)))
        warned.extend(_one_sided(name, results))
    measurements = summarise_measurements([case.measured for case in results], patients, seed=seed)
    warned += [
        f"{each.title}: it could not be measured on {each.missing} of {each.cases} predictions; "
        "its error leaves them out."
        for each in measurements
        if each.missing
    ]
    return Evaluation(tuple(structures), tuple(results), tuple(warned), measurements)


def lay_out(
    sequence: "ImageSequence", truth: np.ndarray, segmentation: "Segmentation"
) -> tuple[np.ndarray, np.ndarray, tuple[float, ...] | None]:
    """Return expert labels and a result in the form that `score_case` takes.

    A scan that was segmented as a whole is measured as a volume. Uneven slices are repeated on an
    even grid, so each counts for the range it covers.

    Args:
        sequence: What was segmented.
        truth: (frames, height, width) label values on its grid.
        segmentation: The result.

    Returns:
        Truth, prediction, and distances in mm along the axes after the first.
    """
    prediction, spacing_mm = segmentation.labels, segmentation.spacing_mm
    if spacing_mm is None or len(spacing_mm) != 3:
        return truth, prediction.array, spacing_mm
    prediction, even = lay_evenly(prediction, sequence)
    expected, _ = lay_evenly(LabelMap(truth), sequence)
    return expected.array[None], prediction.array[None], even.voxel_mm or spacing_mm


def segment_named(segmenter: Segmenter, sequence: "ImageSequence", case: Case) -> "Segmentation":
    """Segment one case; errors name the case and its file.

    Raises:
        InputError: If the image is refused.
    """
    try:
        return segmenter.segment_sequence(sequence)
    except InputError as error:
        raise type(error)(f"case {case.case_id}, {case.image}: {error}") from error


def _mask(labels: np.ndarray, structure: Label | Region) -> np.ndarray:
    """Return the mask of a structure."""
    if isinstance(structure, Label):
        return np.asarray(labels == structure.value)
    return np.isin(labels, structure.labels)


def _score(
    truth: np.ndarray, prediction: np.ndarray, spacing_mm: tuple[float, ...] | None
) -> Scores:
    """Score one structure over the frames of a case."""
    within = tuple(range(1, truth.ndim))
    in_truth, in_prediction = truth.any(axis=within), prediction.any(axis=within)
    one_sided = int(np.count_nonzero(in_truth != in_prediction))
    if not in_truth.any():
        return Scores(None, None, None, None, None, one_sided, bool(in_prediction.any()))
    overlap = dice(truth, prediction), iou(truth, prediction)
    both = np.flatnonzero(in_truth & in_prediction)
    if spacing_mm is None or not len(both):
        return Scores(*overlap, None, None, None, one_sided)
    frames = [
        surface_distances(truth[index], prediction[index], spacing_mm=spacing_mm) for index in both
    ]
    return Scores(
        *overlap,
        asd_mm=float(np.mean([frame.asd_mm for frame in frames])),
        hd95_mm=float(np.mean([frame.hd95_mm for frame in frames])),
        hd_mm=float(np.mean([frame.hd_mm for frame in frames])),
        one_sided=one_sided,
    )


def _too_few_units(results: Sequence[CaseResult]) -> list[str]:
    """Why there is no interval; empty if there is one."""
    count, unit = len({case.patient_id for case in results}), results[0].unit
    if count >= MIN_UNITS:
        return []
    return [
        f"{len(results)} cases of {count_units(count, unit)}: an interval needs at least "
        f"{MIN_UNITS} {unit}, so none is given."
    ]


def _absent(name: str, absent: int, alarms: int, *, of_cases: int) -> list[str]:
    """Warning about cases without a structure, and false alarms in them."""
    if not absent:
        return []
    mean = "there is no Dice" if absent == of_cases else "Dice leaves them out"
    return [
        f"{name}: {absent} of {of_cases} cases do not have it; {mean}. It was drawn in {alarms} "
        "of them all the same."
    ]


def _one_sided(name: str, results: Sequence[CaseResult]) -> list[str]:
    """Warning about frames in which only one of truth and prediction has a structure."""
    frames = sum(case.structures[name].one_sided for case in results)
    if not frames:
        return []
    cases = sum(case.structures[name].one_sided > 0 for case in results)
    return [
        f"{name}: in {frames} frames of {cases} cases only one of truth and prediction has it; "
        "its distances leave these frames out."
    ]
