"""What both pipelines do: plan for a sequence, run, restore to its grid."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from bedside.errors import SpecError
from bedside.pipeline.confidence import ConfidenceEstimator, find_median, name_untrusted
from bedside.pipeline.gate import GateJudge, GateVerdict
from bedside.pipeline.memory import MemoryPlan
from bedside.pipeline.postprocess import LabelEdit, LabelGrid, apply_postprocess
from bedside.runtime import Session
from bedside.spec import DeploymentSpec
from bedside.spec.confidence import Confidence, Confidences
from bedside.spec.gate import Gate
from bedside.volume import Box, Change, ImageSequence, LabelMap

STAGES = ("decode", "preprocess", "network", "postprocess", "total")


@dataclass(frozen=True)
class Segmentation:
    """The result for one sequence.

    Attributes:
        labels: Labels of every frame, on the source grid.
        stage_ms: For each of `STAGES` the time every frame took, (frames,) in ms; of a scan
            that was taken whole, (1,).
        region: Part of the frame that holds the image.
        spacing_mm: (row, column) distance in mm, or (slice, row, column) of a scan that was
            taken whole, of uneven slices their mean; None if it cannot be trusted.
        warnings: Corrections, doubts and missing structures, in sentences.
        changes: What repairs changed in the labels, and what priors found odd about them.
        memory: What was predicted of it, if there was a ceiling.
        probabilities: (K, F, H, W) or (K, D, H, W) float32 on the source grid, background
            first, before repairs; None unless they were asked for.
        gate: How far the image is from what the network was made for, the median over the frames
            or slices that were judged; None without a gate.
        foreign_frames: Frames over time that were judged and are farther than the gate allows, from
            0.
        confidence: How far each structure is to be trusted: in a scan as a whole, in frames over
            time in the frame that is the median by it; empty without a calibration.
        frame_confidence: The same for each frame; empty for a network that takes whole scans.
        sums: (F, K - 1, statistics) that the confidence follows from, (1, ...) of a whole scan;
            None without a calibration.
    """

    labels: LabelMap
    stage_ms: Mapping[str, np.ndarray] = field(repr=False)
    region: Box
    spacing_mm: tuple[float, ...] | None
    warnings: tuple[str, ...]
    changes: tuple[Change, ...] = ()
    memory: MemoryPlan | None = None
    probabilities: np.ndarray | None = field(default=None, repr=False)
    gate: GateVerdict | None = None
    foreign_frames: tuple[int, ...] = ()
    confidence: Confidences = field(default_factory=dict)
    frame_confidence: tuple[Confidences, ...] = ()
    sums: np.ndarray | None = field(default=None, repr=False)


class Assessed(Protocol):
    """The part of a frame's result that says how sure it is."""

    @property
    def confidence(self) -> Confidences:
        """Of each structure."""

    @property
    def sums(self) -> np.ndarray | None:
        """What it follows from."""


class Pipeline(ABC):
    """The steps around a network: a plan for each sequence, and pure functions of it.

    A 2D network takes frames, a 3D network whole scans. A plan is immutable, and may
    be used by any number of threads.

    Args:
        spec: The steps, and the labels.
        session: The network, ready to run.
        gate: Tells foreign images; None not to judge any.
        confidence: How sure masks are; None not to predict it.

    Attributes:
        describes: Whether results have `sums`; they do if there is a `confidence`.
    """

    def __init__(
        self,
        spec: DeploymentSpec,
        session: Session,
        gate: Gate | None = None,
        confidence: Confidence | None = None,
    ) -> None:
        self.spec = spec
        self.session = session
        self.judge = None if gate is None else GateJudge(gate)
        names = [label.name for label in spec.labels]
        self.estimator = None if confidence is None else ConfidenceEstimator(confidence, names)
        self.describes = confidence is not None

    @abstractmethod
    def plan(self, sequence: ImageSequence, *, force: bool = False) -> Any:
        """Plan all steps for one sequence.

        Args:
            sequence: Its frames; some of them may be decoded.
            force: Go on where they look like another kind of image.
        """

    @abstractmethod
    def run(self, source: Any, plan: Any, *, probabilities: bool = False) -> Any:
        """Segment one frame, or one scan.

        Args:
            source: A decoded frame, (C, H, W), or a scan.
            plan: For its sequence.
            probabilities: Whether to work out class probabilities too.
        """

    @abstractmethod
    def restore(
        self, logits: Any, transform: Any, *, probabilities: np.ndarray | None = None
    ) -> np.ndarray:
        """Labels on the source grid, uint8, from logits on the network's.

        Args:
            logits: (K, h, w) of a frame; of a scan (K, n, h, w) slab after slab.
            transform: Where the tensor lies on the source.
            probabilities: Array that class probabilities on the source grid are written to.
        """

    @abstractmethod
    def segment(
        self,
        sequence: ImageSequence,
        *,
        on_frame: Callable[[int], None] | None = None,
        force: bool = False,
        memory: MemoryPlan | None = None,
        probabilities: bool = False,
    ) -> Segmentation:
        """Segment every frame of a sequence whose axes have been resolved.

        Args:
            sequence: The frames, decoded as they are needed.
            on_frame: Called with the number of frames done.
            force: Go on where the frames look like another kind of image.
            memory: From `plan_memory`, where there is a ceiling.
            probabilities: Whether to work out class probabilities too.

        Raises:
            ModalityError: If the frames look like another kind of image, and not `force`.
            FormatError: If a frame cannot be decoded, or is not what the network takes.
            GeometryError: If a step needs a spacing and there is none.
        """

    @abstractmethod
    def plan_memory(
        self,
        sequence: ImageSequence,
        *,
        base_bytes: int,
        max_bytes: int,
        probabilities: bool = False,
    ) -> MemoryPlan:
        """Predict the peak of resident memory of `segment`, and how it stays under a ceiling.

        Args:
            sequence: The frames, not decoded.
            base_bytes: Resident memory of the process, runtime and network ready.
            max_bytes: The ceiling.
            probabilities: Whether class probabilities are worked out too.

        Raises:
            GeometryError: If a step needs a spacing and there is none.
            MemoryLimitError: If it is above the ceiling.
        """

    def _predict(self, tensor: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Logits of a tensor, (B, K, *s).

        Raises:
            SpecError: If the network belongs to another spec: its logits have another shape.
        """
        logits = self.session.predict(tensor) if out is None else self.session.predict(tensor, out)
        model = self.spec.model
        sizes = (size // model.logit_stride for size in tensor.shape[2:])
        expected = (len(tensor), model.num_classes, *sizes)
        if logits.shape != expected:
            raise SpecError(
                f"the network gives logits of {logits.shape}; by the spec of {self.spec.name} they "
                f"are {expected}. It belongs to another spec."
            )
        return logits

    def _edit(
        self, labels: np.ndarray, grid: LabelGrid | None
    ) -> tuple[np.ndarray, list[LabelEdit]]:
        """Run repairs and priors on labels, in place."""
        return apply_postprocess(
            labels,
            self.spec.postprocess,
            label_values=[label.value for label in self.spec.labels],
            priors=self.spec.priors,
            grid=grid,
            in_place=True,
        )

    def _warn(
        self, labels: LabelMap, sequence: ImageSequence, confidence: Confidences
    ) -> list[str]:
        """Warnings of structures that were found nowhere, or are not to be trusted."""
        counts = labels.counts.sum(axis=0)
        missing = [
            f"{label.name} was not found{'' if len(sequence) == 1 else f' in any {sequence.unit}'}."
            for label in self.spec.labels
            if not counts[label.value]
        ]
        return missing + name_untrusted(confidence)

    def _sum_up(
        self, frames: Sequence[Assessed], labels: LabelMap, *, scan: bool
    ) -> tuple[Confidences, tuple[Confidences, ...], np.ndarray | None]:
        """Confidence of all frames together, that of each, and the sums of each."""
        if not self.describes:
            return {}, (), None
        by_frame = tuple(frame.confidence for frame in frames)
        sums = np.stack([frame.sums for frame in frames if frame.sums is not None])
        if self.estimator is None:
            return {}, by_frame, sums
        if scan and len(frames) > 1:
            whole = self.estimator.assess(sums.sum(axis=0), scan=True)
        else:
            whole = find_median(by_frame)
        counts = labels.counts.sum(axis=0)
        drawn = {label.name for label in self.spec.labels if counts[label.value]}
        return {name: each for name, each in whole.items() if name in drawn}, by_frame, sums

    def _allocate_probabilities(self, shape: tuple[int, ...]) -> np.ndarray:
        """Uninitialized probabilities of all classes on a grid, (K, *shape) float32."""
        return np.empty((self.spec.model.num_classes, *shape), np.float32)


def blank_unknown(
    labels: np.ndarray, probabilities: np.ndarray | None, sequence: ImageSequence
) -> None:
    """Turn frames of missing slices into background, in place."""
    unknown = list(sequence.unknown)
    labels[unknown] = 0
    if probabilities is not None:
        probabilities[:, unknown] = 0
        probabilities[0, unknown] = 1
