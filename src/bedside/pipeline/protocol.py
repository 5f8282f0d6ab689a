"""The protocol of both pipelines: plan for a sequence, run, restore to its grid."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from bedside.errors import SpecError
from bedside.pipeline.memory import MemoryPlan
from bedside.pipeline.postprocess import LabelEdit, LabelGrid, apply_postprocess
from bedside.runtime import Session
from bedside.spec import DeploymentSpec
from bedside.volume import Box, Change, ImageSequence, LabelMap

STAGES = ("decode", "preprocess", "network", "postprocess", "total")


@dataclass(frozen=True)
class Segmentation:
    """The result for one sequence.

    Attributes:
        labels: Labels of every frame, on the source grid.
        stage_ms: For each of `STAGES` the time every frame took, (frames,) in ms; of a scan
            that was taken whole, (1,).
        region: Where the image proper was found on the frame.
        spacing_mm: (row, column) distance in mm, or (slice, row, column) of a scan that was
            taken whole, of uneven slices their mean; None if it cannot be trusted.
        warnings: What was fixed, doubted or not found, in sentences for a person.
        changes: What repairs changed in the labels, and what priors found odd about them.
        memory: What was predicted of it, if there was a ceiling.
        probabilities: (K, F, H, W) or (K, D, H, W) float32 on the source grid, background
            first, before repairs; None unless they were asked for.
    """

    labels: LabelMap
    stage_ms: Mapping[str, np.ndarray] = field(repr=False)
    region: Box
    spacing_mm: tuple[float, ...] | None
    warnings: tuple[str, ...]
    changes: tuple[Change, ...] = ()
    memory: MemoryPlan | None = None
    probabilities: np.ndarray | None = field(default=None, repr=False)


class Pipeline(Protocol):
    """The steps around a network: a plan for each sequence, and pure functions of it.

    A network of two axes takes frames, one of three axes whole scans. A plan is immutable, and may
    be used by any number of threads.
    """

    def plan(self, sequence: ImageSequence, *, force: bool = False) -> Any:
        """Fill in the numbers of all steps for one sequence."""
        ...

    def run(self, source: Any, plan: Any, *, probabilities: bool = False) -> Any:
        """Labels of one frame, or of one scan, with their times and edits."""
        ...

    def restore(
        self, logits: Any, transform: Any, *, probabilities: np.ndarray | None = None
    ) -> np.ndarray:
        """Labels on the source grid from logits on the network's; class probabilities too."""
        ...

    def segment(
        self,
        sequence: ImageSequence,
        *,
        on_frame: Callable[[int], None] | None = None,
        force: bool = False,
        memory: MemoryPlan | None = None,
        probabilities: bool = False,
    ) -> Segmentation:
        """Plan and run for a whole sequence."""
        ...

    def plan_memory(
        self,
        sequence: ImageSequence,
        *,
        base_bytes: int,
        max_bytes: int,
        probabilities: bool = False,
    ) -> MemoryPlan:
        """Predict the peak of resident memory of `segment`, and how it stays under a ceiling."""
        ...


def predict_checked(
    session: Session, spec: DeploymentSpec, tensor: np.ndarray, *, out: np.ndarray | None = None
) -> np.ndarray:
    """Logits of a tensor, (B, K, *s), from the network that belongs to a spec.

    Args:
        session: The network.
        spec: What it should be.
        tensor: (B, C, *S) float32.
        out: Array that the logits are written to; None for a new one.

    Raises:
        SpecError: If they have another shape than the spec says.
    """
    logits = session.predict(tensor) if out is None else session.predict(tensor, out)
    model = spec.model
    sizes = (size // model.logit_stride for size in tensor.shape[2:])
    expected = (len(tensor), model.num_classes, *sizes)
    if logits.shape != expected:
        raise SpecError(
            f"the network gives logits of {logits.shape}; by the spec of {spec.name} they "
            f"are {expected}. It belongs to another spec."
        )
    return logits


def edit_labels(
    labels: np.ndarray, spec: DeploymentSpec, grid: LabelGrid | None
) -> tuple[np.ndarray, list[LabelEdit]]:
    """Run a spec's repairs and priors on labels, in place."""
    return apply_postprocess(
        labels,
        spec.postprocess,
        label_values=[label.value for label in spec.labels],
        priors=spec.priors,
        grid=grid,
        in_place=True,
    )


def name_missing(spec: DeploymentSpec, labels: LabelMap, sequence: ImageSequence) -> list[str]:
    """Warnings that name the structures that were found nowhere."""
    counts = labels.counts.sum(axis=0)
    return [
        f"{label.name} was not found{'' if len(sequence) == 1 else f' in any {sequence.unit}'}."
        for label in spec.labels
        if not counts[label.value]
    ]


def allocate_probabilities(spec: DeploymentSpec, shape: tuple[int, ...]) -> np.ndarray:
    """Uninitialized probabilities of all classes on a grid, (K, *shape) float32."""
    return np.empty((spec.model.num_classes, *shape), np.float32)


def blank_unknown(
    labels: np.ndarray, probabilities: np.ndarray | None, sequence: ImageSequence
) -> None:
    """Turn frames of missing slices into background, in place."""
    unknown = list(sequence.unknown)
    labels[unknown] = 0
    if probabilities is not None:
        probabilities[:, unknown] = 0
        probabilities[0, unknown] = 1
