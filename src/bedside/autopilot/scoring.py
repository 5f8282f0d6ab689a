"""Accuracy on patients: Dice and HD95 per case, and recall of small components.

Cases go through the data way's own pipeline and are compared on their own grid, as in
`bedside.evaluation`. Small components are measured separately, because mean Dice hardly shows
them, and a smaller network loses them first.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from bedside.datasets.case import Case, read_case
from bedside.errors import DataError
from bedside.evaluation.cases import Segmenter, lay_out, score_case, segment_named
from bedside.spec import Label

SMALLEST = 0.25
"""Part of the experts' connected parts of a structure that counts as the smallest."""


@dataclass(frozen=True)
class StructureScore:
    """One structure in one case.

    Attributes:
        dice: Dice over all frames together; None where the experts did not draw it.
        hd95_mm: 95th percentile of the Hausdorff distance; None where it is not known.
        sizes: Pixels or voxels of each connected part that the experts drew.
        recalls: Which fraction of each was given the right label.
        false_alarm: Whether it was drawn although the experts drew it nowhere in the case.
    """

    dice: float | None
    hd95_mm: float | None
    sizes: tuple[int, ...] = ()
    recalls: tuple[float, ...] = ()
    false_alarm: bool = False


@dataclass(frozen=True)
class CaseScore:
    """One case.

    Attributes:
        case_id: Its name.
        patient_id: Its patient, or the person if patients are blocks of them.
        structures: Scores by name, in the order of the labels.
    """

    case_id: str
    patient_id: str
    structures: Mapping[str, StructureScore]


@dataclass(frozen=True)
class Score:
    """Accuracy of a network on some patients.

    Attributes:
        cases: Case by case.
    """

    cases: tuple[CaseScore, ...]

    @property
    def structures(self) -> tuple[str, ...]:
        """Names of the structures."""
        return tuple(self.cases[0].structures)

    def by_patient(self) -> dict[str, dict[str, float]]:
        """Average the Dice of a patient's cases: patient -> structure -> Dice.

        A structure that no case of a patient has is left out there.
        """
        rows: dict[str, list[CaseScore]] = defaultdict(list)
        for case in self.cases:
            rows[case.patient_id].append(case)
        return {patient: self._average(cases) for patient, cases in rows.items()}

    def mean_dice(self) -> dict[str, float]:
        """Average over the cases that have a structure: structure -> Dice."""
        return self._average(self.cases)

    def false_alarms(self) -> dict[str, int]:
        """Count the cases in which a structure was drawn that the experts drew nowhere."""
        return {
            name: sum(case.structures[name].false_alarm for case in self.cases)
            for name in self.structures
        }

    def new_alarms(self, reference: "Score") -> dict[str, float]:
        """Return by how much the part of cases with a false alarm grows beside a reference."""
        before, after = reference.false_alarms(), self.false_alarms()
        return {name: (after[name] - before[name]) / len(self.cases) for name in after}

    def _average(self, cases: Sequence[CaseScore]) -> dict[str, float]:
        """Average over the cases that have a structure; one that none has is left out."""
        known = {
            name: [d for case in cases if (d := case.structures[name].dice) is not None]
            for name in self.structures
        }
        return {name: float(np.mean(values)) for name, values in known.items() if values}

    def mean_hd95_mm(self) -> dict[str, float | None]:
        """Average over the cases with a distance: structure -> HD95 in mm, or None."""
        resources: dict[str, float | None] = {}
        for name in self.structures:
            known = [
                value
                for case in self.cases
                if (value := case.structures[name].hd95_mm) is not None and np.isfinite(value)
            ]
            resources[name] = float(np.mean(known)) if known else None
        return resources

    def smallest_recall(self) -> dict[str, float | None]:
        """Recall of the experts' smallest components: structure -> mean recall.

        The smallest components of a structure are those up to the first quartile of the sizes
        of all its components here; each counts alike. Components are connected by faces, in a
        frame or in a scan that was segmented whole.
        """
        recalls: dict[str, float | None] = {}
        for name in self.structures:
            scores = [case.structures[name] for case in self.cases]
            sizes = np.array([size for score in scores for size in score.sizes])
            found = np.array([recall for score in scores for recall in score.recalls])
            if not len(sizes):
                recalls[name] = None
                continue
            small = sizes <= np.quantile(sizes, SMALLEST)
            recalls[name] = float(found[small].mean())
        return recalls


def score_network(
    segmenter: Segmenter,
    cases: Sequence[Case],
    *,
    on_case: Callable[[int], None] | None = None,
) -> Score:
    """Segment every case, and compare it with the experts' labels.

    Args:
        segmenter: Labels the frames of an image.
        cases: What to score, at least one.
        on_case: Called with the number of cases done.

    Raises:
        DataError: If labels do not fit an image or the network's labels, or a structure is in
            none of the cases, so that nothing can be said of it.
        InputError: If an image cannot be read or segmented.
    """
    labels = segmenter.spec.labels
    results = []
    for count, case in enumerate(cases, 1):
        source, truth = read_case(case, tuple(label.value for label in labels))
        segmentation = segment_named(segmenter, source.sequence, case)
        truth, prediction, spacing_mm = lay_out(source.sequence, truth, segmentation)
        scored = score_case(case, truth, prediction, spacing_mm=spacing_mm, labels=labels)
        parts = {label.name: measure_components(truth, prediction, label) for label in labels}
        results.append(
            CaseScore(
                case.case_id,
                case.person,
                {
                    name: StructureScore(
                        each.dice, each.hd95_mm, *parts[name], false_alarm=each.false_alarm
                    )
                    for name, each in scored.structures.items()
                },
            )
        )
        if on_case:
            on_case(count)
    score = Score(tuple(results))
    _check_present(score)
    return score


def measure_components(
    truth: np.ndarray, prediction: np.ndarray, label: Label
) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Find the connected parts of a structure, and how much of each is found.

    Args:
        truth: (frames, *S) labels; parts do not reach from one frame into the next.
        prediction: The same.
        label: The structure.

    Returns:
        Size of each part, and the fraction of it that has the label in `prediction`.

    Example:
        >>> from bedside.spec import Code
        >>> code = Code("1", "SCT", "Thing")
        >>> label = Label(1, "thing", (255, 0, 0), code, code)
        >>> truth = np.array([[[1, 1, 0, 1]]])
        >>> measure_components(truth, np.array([[[1, 0, 0, 0]]]), label)
        ((2, 1), (0.5, 0.0))
    """
    sizes: list[int] = []
    recalls: list[float] = []
    for frame, drawn in zip(truth, prediction, strict=True):
        parts, count = ndimage.label(frame == label.value)
        found = drawn == label.value
        whole = np.bincount(parts.ravel(), minlength=count + 1)[1:]
        hit = np.bincount(parts[found].ravel(), minlength=count + 1)[1:]
        sizes.extend(whole.tolist())
        recalls.extend((hit / whole).tolist())
    return tuple(sizes), tuple(recalls)


def _check_present(score: Score) -> None:
    """Refuse data that lack a structure: its loss could not be measured.

    Raises:
        DataError: If there is one.
    """
    for name in score.structures:
        if not any(case.structures[name].sizes for case in score.cases):
            raise DataError(
                f'the structure "{name}" is in none of the {len(score.cases)} cases that '
                "networks are compared on. Use data with the labels that the network draws."
            )
