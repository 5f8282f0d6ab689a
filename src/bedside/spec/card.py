"""The model card: provenance, accuracy, and intended use of a bundle."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from bedside.errors import SpecError
from bedside.spec.reading import UNLESS_EMPTY

MIN_UNITS = 8
"""Independent units below which a bootstrap has too few different draws for an interval."""

DISCLAIMER = "Research use only. Not a medical device. Not for diagnosis or treatment."


@dataclass(frozen=True)
class Interval:
    """A mean over cases and its 95 % bootstrap interval; None where it cannot be known.

    Attributes:
        mean: Mean over cases.
        low: Lower end; None with too few independent units for an interval.
        high: Upper end, likewise.
    """

    mean: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class StructureResult:
    """Accuracy of one structure.

    Overlap is averaged over the cases that have the structure; in the others, a prediction counts
    as a false alarm.

    Attributes:
        name: The label's name.
        dice: Dice coefficient.
        iou: Intersection over union.
        asd_mm: Average symmetric surface distance in mm.
        hd95_mm: 95th percentile of the Hausdorff distance in mm.
        hd_mm: Hausdorff distance in mm.
        cases: Number of cases that have the structure; 0 on cards that do not say.
        absent: Number of cases that do not have it.
        false_alarms: How many of these it was drawn in.
    """

    name: str
    dice: Interval
    iou: Interval
    asd_mm: Interval
    hd95_mm: Interval
    hd_mm: Interval
    cases: int = field(default=0, metadata=UNLESS_EMPTY)
    absent: int = field(default=0, metadata=UNLESS_EMPTY)
    false_alarms: int = field(default=0, metadata=UNLESS_EMPTY)


@dataclass(frozen=True)
class PrecisionResult:
    """A certificate: the accuracy that one precision keeps in one runtime.

    It holds for that runtime only: another one sums in another order and can saturate where
    this one does not. Older bundles leave some fields empty; they were measured in OpenVINO.

    Attributes:
        precision: "f32", "bf16" or "int8".
        dice: Mean validation Dice of each structure, in the order of the labels; None for one
            that no validation image has.
        max_drop: Largest loss of any structure against the reference; negative is a gain.
        passed: Whether `max_drop` is within the recipe's bound, and something was drawn.
        agreement: Dice of its masks with the reference's, structure by structure, pixels of
            all cases together.
        size_change: Mean over cases of what areas or volumes grow by, as a part; None for a
            structure that the reference never finds.
        worst_logit_part: Largest difference of a logit, as a part of the largest.
        cases: Number of validation images.
        ran_in: Runtime that all of it was measured in, with its version.
        backend: Name of that runtime in the table of backends.
        reference: Backend and precision that it was compared with, such as "openvino f32".
    """

    precision: str
    dice: tuple[float | None, ...]
    max_drop: float
    passed: bool
    agreement: tuple[float, ...] = ()
    size_change: tuple[float | None, ...] = ()
    worst_logit_part: float | None = None
    cases: int = 0
    ran_in: str = ""
    backend: str = "openvino"
    reference: str = ""

    @property
    def draws_nothing(self) -> bool:
        """Whether the reference has drawn nothing in any image; False where that is not known."""
        return bool(self.size_change) and all(each is None for each in self.size_change)


@dataclass(frozen=True)
class ArtefactLoss:
    """What an artefact costs that was planted into the test images.

    Attributes:
        artefact: Its name, with its strength.
        loss: Of each structure, in the order of the labels, the mean Dice lost against the same
            images without it; None where none has the structure, or all were refused.
        warned: Part of the images that have a warning because of it.
        refused: Part of the images that were refused.
    """

    artefact: str
    loss: tuple[float | None, ...]
    warned: float
    refused: float


@dataclass(frozen=True)
class ConfidenceResult:
    """How well the confidence of one structure was found to hold on the test part.

    Attributes:
        name: The label's name.
        caught: Part of the worst tenth of images that is flagged where 10 % of the others are:
            (as they are, with images of planted artefacts too).
        aurc_gap: Area under the risk-coverage curve beyond the oracle's, that of a random order
            being 1; likewise.
        error: Mean absolute difference of predicted and true Dice, of means in 5 bins; likewise.
        coverage: Part of images whose Dice lies in its interval: (as they are, of those with
            planted artefacts).
    """

    name: str
    caught: tuple[float, float]
    aurc_gap: tuple[float, float]
    error: tuple[float, float]
    coverage: tuple[float, float]


@dataclass(frozen=True)
class Card:
    """The model card.

    Attributes:
        data: Name of the data set.
        source: Its citation.
        license: Terms that data and weights come under.
        patients: Number of patients for (training, validation, test), or of `split_unit`.
        test_cases: Number of images that `structures` is taken over.
        structures: Accuracy on the test patients, at the input's own resolution.
        precisions: What each precision keeps in each backend, on the validation patients.
        parameters: Number of weights.
        gmac: Multiply-accumulates of one input, in 1e9.
        seed: Seed of the training.
        epochs: Passes over the data.
        commit: Revision of the code that trained it.
        created: Date of the build, ISO 8601.
        untrained: True for random weights, made to measure cost only.
        limits: What is known to go wrong, in sentences.
        relabel: Label for each value that the data's masks hold in place of one.
        disclaimer: What it is not for.
        compression: What was done to the network after its training, in sentences: what it
            was made from, and every step that was kept.
        unit: What the intervals of `structures` count as independent, in the plural; "" on cards
            that do not say.
        units: How many of them the test part has.
        split_unit: What the data were split by, in the plural, likewise.
        robustness: What planted artefacts cost on the test patients; see
            `bedside evaluate --robustness`.
        confidence: How well the bundle's confidence holds on the test patients, of structures
            that have one; see `benchmarks/confidence.py`.
    """

    data: str
    source: str
    license: str
    patients: tuple[int, int, int]
    test_cases: int
    structures: tuple[StructureResult, ...]
    precisions: tuple[PrecisionResult, ...]
    parameters: int
    gmac: float
    seed: int
    epochs: int
    commit: str
    created: str
    untrained: bool = False
    limits: tuple[str, ...] = ()
    relabel: Mapping[str, int] = field(default_factory=dict)
    disclaimer: str = DISCLAIMER
    compression: tuple[str, ...] = field(default=(), metadata=UNLESS_EMPTY)
    unit: str = field(default="", metadata=UNLESS_EMPTY)
    units: int = field(default=0, metadata=UNLESS_EMPTY)
    split_unit: str = field(default="", metadata=UNLESS_EMPTY)
    robustness: tuple[ArtefactLoss, ...] = field(default=(), metadata=UNLESS_EMPTY)
    confidence: tuple[ConfidenceResult, ...] = field(default=(), metadata=UNLESS_EMPTY)

    def __post_init__(self) -> None:
        """Refuse two certificates for one backend and precision."""
        pairs = [(result.backend, result.precision) for result in self.precisions]
        if repeated := [pair for pair in dict.fromkeys(pairs) if pairs.count(pair) > 1]:
            backend, precision = repeated[0]
            raise SpecError(
                f"precisions has {pairs.count(repeated[0])} results for {backend} in {precision}; "
                "expected one. Certify the bundle again with: bedside certify."
            )

    def find_certificate(self, backend: str, precision: str) -> PrecisionResult | None:
        """Return what was measured for a backend in a precision, or None.

        Args:
            backend: Name of a runtime.
            precision: "f32", "bf16" or "int8".
        """
        found = (r for r in self.precisions if (r.backend, r.precision) == (backend, precision))
        return next(found, None)

    def certifies(self, backend: str, precision: str) -> bool:
        """Whether a backend in a precision was measured and keeps the accuracy.

        Args:
            backend: Name of a runtime.
            precision: "f32", "bf16" or "int8".
        """
        result = self.find_certificate(backend, precision)
        return result is not None and result.passed


def count_units(count: int, unit: str) -> str:
    """Return a number with its unit, given in the plural.

    Example:
        >>> count_units(1, "pairs of neighbouring volumes"), count_units(2, "exams")
        ('1 pair of neighbouring volumes', '2 exams')
    """
    first, *rest = unit.split(" ", 1)
    return " ".join([str(count), first.removesuffix("s") if count == 1 else first, *rest])


def describe_few_units(card: Card) -> str:
    """How few units a card's accuracy was measured on; empty where they suffice for an interval.

    Example:
        >>> from types import SimpleNamespace
        >>> describe_few_units(SimpleNamespace(unit="sequences", units=1))
        'tested on 1 sequence'
        >>> describe_few_units(SimpleNamespace(unit="patients", units=90))
        ''
    """
    few = card.unit and card.units < MIN_UNITS
    return f"tested on {count_units(card.units, card.unit)}" if few else ""


def describe_test(card: Card) -> str:
    """Return in words which images and patients a card's accuracy was measured on.

    Example:
        >>> from types import SimpleNamespace
        >>> describe_test(SimpleNamespace(
        ...     test_cases=41, patients=(7, 1, 2), unit="pairs of neighbouring volumes", units=27,
        ...     split_unit="blocks of 30 volumes"))
        '41 test images of 2 blocks of 30 volumes, 27 pairs of neighbouring volumes'
    """
    split = card.split_unit or "patients"
    words = f"{card.test_cases} test images of {count_units(card.patients[2], split)}"
    if not card.unit or card.unit == split:
        return words
    return f"{words}, {count_units(card.units, card.unit)}"
