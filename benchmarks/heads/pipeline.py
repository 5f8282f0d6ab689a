"""A bundle's own pipeline with a head behind its network, on images as they are stored."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from bedside.bundle import Bundle
from bedside.datasets import Case
from bedside.datasets.case import read_case
from bedside.errors import InputError
from bedside.evaluation.cases import CaseResult, lay_out, score_case, segment_named
from bedside.evaluation.planted import Artefact, plant_artefact
from bedside.pipeline.frames.pipeline import FramePipeline
from bedside.pipeline.frames.plan import FramePlan
from bedside.pipeline.segmenter import Segmenter, open_segmenter
from heads.diffusion import DiffusionHead, draw_masks
from heads.features import FeatureNetwork
from heads.graph import GraphHead
from heads.rings import VERTICES, draw_scores, trace_logits

Change = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""Logits that count, from the tensor, (1, C, H, W), and the network's, (K, h, w)."""


class HeadPipeline(FramePipeline):
    """Frames whose logits a head changes, as the network saw them; the marker is the network's.

    Attributes:
        change: The head; None for the network alone.
        seen: Tensor, (1, C, H, W), and logits, (K, h, w), of the last frame, without the head.
    """

    change: Change | None = None
    seen: tuple[np.ndarray, np.ndarray]

    def _predict_upright(
        self, tensor: np.ndarray, plan: FramePlan, out: np.ndarray | None
    ) -> np.ndarray:
        turned = np.ascontiguousarray(tensor[..., ::-1]) if plan.mirrored else tensor
        logits = np.array(self._predict(turned, None)[0])
        self.seen = turned.copy(), logits
        if self.change is not None:
            logits = self.change(turned, logits)
        return np.ascontiguousarray(logits[..., ::-1]) if plan.mirrored else logits


def open_with_head(bundle: Bundle, change: Change | None) -> Segmenter:
    """A bundle in f32 on one thread of OpenVINO, with a head."""
    segmenter = open_segmenter(bundle, backend="openvino", precision="f32", threads=1, gate="off")
    pipeline = HeadPipeline(bundle.spec, segmenter.session, None, bundle.confidence)
    pipeline.change = change
    segmenter.pipeline = pipeline
    return segmenter


def change_by_graph(network: FeatureNetwork, head: GraphHead) -> Change:
    """Contours of the network's mask, moved by the head and filled."""

    @torch.inference_mode()
    def change(tensor: np.ndarray, logits: np.ndarray) -> np.ndarray:
        own, features = network(torch.from_numpy(tensor))
        rings = trace_logits(logits)
        moved = move_rings(head, rings, features, own)
        return draw_scores(moved, logits.shape[1:])

    return change


@torch.inference_mode()
def move_rings(
    head: GraphHead,
    rings: Sequence[np.ndarray | None],
    features: torch.Tensor,
    logits: torch.Tensor,
) -> list[np.ndarray | None]:
    """Contours of one image after all passes; those that are not there stay so."""
    begin = [np.full((VERTICES, 2), 128, np.float32) if each is None else each for each in rings]
    moved = head(torch.from_numpy(np.stack(begin))[None], features, logits)[-1, 0].numpy()
    return [None if each is None else found for each, found in zip(rings, moved, strict=True)]


def change_by_diffusion(
    network: FeatureNetwork, head: DiffusionHead, settings: dict[str, float]
) -> Change:
    """Logarithm of the mean chances of masks that the head draws."""

    @torch.inference_mode()
    def change(tensor: np.ndarray, logits: np.ndarray) -> np.ndarray:
        own, features = network(torch.from_numpy(tensor))
        drawn = draw_masks(head, features, own, **settings)
        return drawn.mean(dim=0).clamp_min(1e-6).log().numpy()

    return change


@dataclass(frozen=True)
class Scored:
    """A case as it was scored, with its labels.

    Attributes:
        result: Scores of each structure on the image's own grid.
        truth: (H, W) labels.
        labels: (H, W) labels of the prediction.
    """

    result: CaseResult
    truth: np.ndarray = field(repr=False)
    labels: np.ndarray = field(repr=False)


def score_cases(segmenter: Segmenter, cases: Sequence[Case]) -> list[Scored]:
    """Score single frames as `bedside evaluate` does, and keep their labels."""
    labels, found = segmenter.spec.labels, []
    for case in cases:
        source, truth = read_case(case, tuple(label.value for label in labels))
        segmentation = segment_named(segmenter, source.sequence, case)
        truth, prediction, spacing_mm = lay_out(source.sequence, truth, segmentation)
        result = score_case(case, truth, prediction, spacing_mm=spacing_mm, labels=labels)
        found.append(Scored(result, truth[0], prediction[0]))
    return found


@dataclass(frozen=True)
class Drawn:
    """An image with or without an artefact, as the network alone drew it.

    Attributes:
        unit: Its patient.
        artefact: "" for none.
        counts: (K - 1, 3) pixels in both, of the truth, and of the prediction.
        sums: (K - 1, statistics) of the shipped confidence.
        tensor: (1, C, H, W) that the network took.
        logits: (K, h, w) that it gave.
    """

    unit: str
    artefact: str
    counts: np.ndarray
    sums: np.ndarray
    tensor: np.ndarray
    logits: np.ndarray


def draw_spoilt(segmenter: Segmenter, case: Case, planted: Sequence[Artefact]) -> Iterator[Drawn]:
    """A case as it is and with artefacts, as `bedside.evaluation.calibration` draws them."""
    values = tuple(label.value for label in segmenter.spec.labels)
    source, truth = read_case(case, values)
    pipeline = segmenter.pipeline
    assert isinstance(pipeline, HeadPipeline)
    for artefact in (None, *planted):
        sequence, expected = source.sequence, truth
        if artefact is not None:
            sequence, expected = plant_artefact(
                artefact, sequence, truth, name=case.case_id, seed=0
            )
        try:
            found = segment_named(segmenter, sequence, case)
        except InputError:
            continue
        labels = found.labels.array
        counts = [
            ((true & own).sum(), true.sum(), own.sum())
            for value in values
            for true, own in [(expected == value, labels == value)]
        ]
        assert found.sums is not None
        name = "" if artefact is None else artefact.name
        yield Drawn(case.person, name, np.array(counts), found.sums[0], *pipeline.seen)
