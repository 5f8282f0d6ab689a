"""Compares two ways to run one network, on the same images through the same pipeline."""

import hashlib
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from bedside.datasets.case import Case, read_case
from bedside.evaluation.metrics import dice
from bedside.runtime.contract import Session, WrappedSession
from bedside.segment import Segmenter
from bedside.spec import DeploymentSpec
from bedside.volume import ImageSequence

# Logits of so many windows of a scan are kept for comparing; all of a large one would fill memory.
_MOST_WINDOWS = 32


@dataclass(frozen=True)
class Sample:
    """An image to run networks on.

    Attributes:
        name: What errors call it.
        sequence: Its frames.
        truth: (frames, height, width) labels by experts; None if nobody has drawn any.
    """

    name: str
    sequence: ImageSequence
    truth: np.ndarray | None = field(default=None, repr=False)


@dataclass(frozen=True)
class StructureChange:
    """How one structure changes when the network runs another way.

    Attributes:
        name: The label's name.
        dice_reference: Mean Dice of the reference's masks with the truth, over the cases that
            have the structure; None without one.
        dice: Mean Dice of the other's masks with the truth, likewise.
        loss: How much Dice is lost, or by how much the part of cases grows in which the structure
            is drawn without being there, whichever is more; without a truth, what is missing in
            `agreement`.
        agreement: Dice of the other's masks with the reference's, pixels of all cases together.
        size_change: Mean over cases of what its area or volume grows by, as a part of the
            reference's; None where the reference never finds it.
        largest_size_change: The largest of them, without its sign.
    """

    name: str
    dice_reference: float | None
    dice: float | None
    loss: float
    agreement: float
    size_change: float | None
    largest_size_change: float | None


@dataclass(frozen=True)
class Comparison:
    """How two ways to run a network differ.

    Attributes:
        structures: One for each label, in order.
        worst_logit: Largest difference of a logit, within the first windows of each scan.
        worst_logit_part: The same as a part of the largest logit of its image (or of 1, if
            all logits are smaller).
        labels_equal: Part of all pixels of all images whose labels are equal, in [0, 1].
        cases: Number of images.
        with_truth: Whether they had labels by experts.
    """

    structures: tuple[StructureChange, ...]
    worst_logit: float
    worst_logit_part: float
    labels_equal: float
    cases: int
    with_truth: bool

    @property
    def loss(self) -> float:
        """The largest loss of any structure; negative is a gain."""
        return max(structure.loss for structure in self.structures)

    @property
    def draws_nothing(self) -> bool:
        """Whether the reference draws nothing in any image, so that equal masks show nothing."""
        return all(structure.size_change is None for structure in self.structures)

    @property
    def misses_all(self) -> bool:
        """Whether the reference draws nothing in any image, and experts have."""
        expected = any(structure.dice_reference is not None for structure in self.structures)
        return self.draws_nothing and expected


def read_samples(cases: Sequence[Case], spec: DeploymentSpec) -> Iterator[Sample]:
    """Read the cases of a data set, one at a time.

    Raises:
        DataError: If a case's labels do not fit its image or the spec's labels.
        InputError: If an image cannot be read.
    """
    values = tuple(label.value for label in spec.labels)
    for case in cases:
        source, truth = read_case(case, values)
        yield Sample(case.case_id, source.sequence, truth)


def compare_sessions(
    spec: DeploymentSpec,
    reference: Session,
    others: Mapping[str, Session],
    samples: Iterable[Sample],
) -> dict[str, Comparison]:
    """Return how other ways to run a network differ from a reference, over images.

    Each goes through the whole pipeline, so that masks are compared where they are used:
    repaired, at the resolution of the image.

    Args:
        spec: The deployment that all of them run.
        reference: The network as it is meant.
        others: The same network run other ways, by name.
        samples: At least one image; all with a truth, or all without.

    Returns:
        A comparison for each of the others, by name.

    Raises:
        InputError: If an image is refused, or logits are not finite.
        ValueError: If there are no samples.
    """
    tallies = {name: _Tally(spec) for name in others}
    for sample in samples:
        recording = _Recording(reference)
        # An image without a truth may show nothing that has a side.
        steps = spec if sample.truth is not None else replace(spec, marker=None)
        # A sample was chosen for this bundle, whatever its file says of its kind.
        expected = (
            Segmenter(steps, recording).segment_sequence(sample.sequence, force=True).labels.array
        )
        for name, session in others.items():
            checking = _Checking(session, recording.logits)
            found = (
                Segmenter(steps, checking)
                .segment_sequence(sample.sequence, force=True)
                .labels.array
            )
            tallies[name].add(sample, expected, found)
            tallies[name].add_logits(checking)
    return {name: tally.sum_up() for name, tally in tallies.items()}


class _Recording(WrappedSession):
    """A session that keeps its outputs for the first tensors, by their content."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        self.logits: dict[bytes, np.ndarray] = {}

    def predict(self, tensor: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        logits = super().predict(tensor, out)
        if len(self.logits) < _MOST_WINDOWS:
            self.logits[_key(tensor)] = logits.copy()
        return logits


class _Checking(WrappedSession):
    """A session whose logits are compared with those of another for the same tensors."""

    def __init__(self, session: Session, expected: Mapping[bytes, np.ndarray]) -> None:
        super().__init__(session)
        self._expected = expected
        self.worst, self.worst_part = 0.0, 0.0
        self._lock = threading.Lock()

    def predict(self, tensor: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        logits, wanted = super().predict(tensor, out), self._expected.get(_key(tensor))
        if wanted is None:
            return logits
        difference = float(np.abs(logits - wanted).max())
        part = difference / max(1.0, float(np.abs(wanted).max()))
        with self._lock:
            self.worst = max(self.worst, difference)
            self.worst_part = max(self.worst_part, part)
        return logits


def _key(tensor: np.ndarray) -> bytes:
    """Name a tensor by its content."""
    return hashlib.blake2b(np.ascontiguousarray(tensor).data, digest_size=16).digest()


class _Tally:
    """Adds up how one way differs from the reference, case by case."""

    def __init__(self, spec: DeploymentSpec) -> None:
        self._labels = spec.labels
        self._cases, self._truths = 0, 0
        self._worst, self._worst_part = 0.0, 0.0
        self._dice: list[list[tuple[float, float]]] = [[] for _ in spec.labels]
        self._false_alarms = [0 for _ in spec.labels]  # the other's less the reference's
        self._growth: list[list[float]] = [[] for _ in spec.labels]
        # Pixels of both, of the reference, of the other.
        self._pixels = np.zeros((len(spec.labels), 3), np.int64)
        self._equal, self._all = 0, 0

    def add(self, sample: Sample, expected: np.ndarray, found: np.ndarray) -> None:
        self._cases += 1
        self._truths += sample.truth is not None
        self._equal += int(np.count_nonzero(expected == found))
        self._all += expected.size
        for index, label in enumerate(self._labels):
            before, after = expected == label.value, found == label.value
            counts = [int(np.count_nonzero(mask)) for mask in (before & after, before, after)]
            self._pixels[index] += counts
            if counts[1]:
                self._growth[index].append(counts[2] / counts[1] - 1)
            if sample.truth is None:
                continue
            mask = sample.truth == label.value
            if mask.any():
                self._dice[index].append((dice(mask, before), dice(mask, after)))
            else:
                self._false_alarms[index] += int(after.any()) - int(before.any())

    def add_logits(self, checking: _Checking) -> None:
        self._worst = max(self._worst, checking.worst)
        self._worst_part = max(self._worst_part, checking.worst_part)

    def sum_up(self) -> Comparison:
        if not self._cases or self._truths not in (0, self._cases):
            raise ValueError("expected at least one sample, and a truth for all or for none.")
        return Comparison(
            structures=tuple(map(self._structure, range(len(self._labels)))),
            worst_logit=self._worst,
            worst_logit_part=self._worst_part,
            labels_equal=self._equal / self._all,
            cases=self._cases,
            with_truth=self._truths > 0,
        )

    def _structure(self, index: int) -> StructureChange:
        both, before, after = (int(count) for count in self._pixels[index])
        agreement = 2 * both / (before + after) if before + after else 1.0
        growth, pairs = self._growth[index], self._dice[index]
        reference = float(np.mean([pair[0] for pair in pairs])) if pairs else None
        other = float(np.mean([pair[1] for pair in pairs])) if pairs else None
        return StructureChange(
            name=self._labels[index].name,
            dice_reference=reference,
            dice=other,
            loss=self._loss(index, reference, other) if self._truths else 1 - agreement,
            agreement=agreement,
            size_change=float(np.mean(growth)) if growth else None,
            largest_size_change=max(map(abs, growth)) if growth else None,
        )

    def _loss(self, index: int, reference: float | None, other: float | None) -> float:
        """Return what is lost beside the truth: Dice, or in false alarms."""
        alarms = self._false_alarms[index] / self._cases
        if reference is None or other is None:
            return alarms
        return max(reference - other, alarms) if alarms > 0 else reference - other
