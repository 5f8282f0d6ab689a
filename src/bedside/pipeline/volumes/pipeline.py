"""Whole scans: preprocess, predict window by window, restore slice by slice, repair."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from bedside.pipeline.confidence import describe_slabs
from bedside.pipeline.gate import GateVerdict, median_verdict
from bedside.pipeline.memory import MemoryPlan, plan_volume
from bedside.pipeline.postprocess import EditLog, LabelEdit, grid_of
from bedside.pipeline.protocol import STAGES, Pipeline, Segmentation, blank_unknown
from bedside.pipeline.stopwatch import Stopwatch
from bedside.pipeline.volumes.prepare import plan_transform, prepare_volume
from bedside.pipeline.volumes.sliding_window import Shape, plan_window, predict_slabs
from bedside.pipeline.volumes.tilt import TiltCorrection, correct_gantry_tilt
from bedside.pipeline.volumes.transform import VolumeTransform
from bedside.spec.confidence import Confidences
from bedside.system.parallel import run_ahead
from bedside.system.process_memory import trim_heap
from bedside.volume import Box, ImageSequence, LabelMap


@dataclass(frozen=True)
class VolumePlan:
    """The plan of a scan.

    Attributes:
        correction: Of a tilted gantry; None if there is no tilt.
        half: Whether it is kept in 16 bits on its way through the network.
    """

    correction: TiltCorrection | None = None
    half: bool = False


@dataclass(frozen=True)
class VolumeResult:
    """Result of one scan.

    Attributes:
        labels: (D, H, W) uint8 on the source grid.
        stage_ms: Time of each of `STAGES` but "total", in ms; of the network what it was waited
            for, as it runs beside the blending and restoring of what it has done.
        edits: What repairs changed, and what priors found odd.
        warnings: What could not be trusted.
        probabilities: (K, D, H, W) float32, background first, before repairs; None unless they
            were asked for.
        confidence: How far each structure is to be trusted; empty without a calibration.
        sums: (K - 1, statistics) that it follows from; None without a calibration.
        gate: How far the scan is from what the network was made for, the median over slices of
            its windows; None without a gate.
    """

    labels: np.ndarray
    stage_ms: Mapping[str, float]
    edits: list[LabelEdit]
    warnings: tuple[str, ...]
    probabilities: np.ndarray | None = field(default=None, repr=False)
    confidence: Confidences = field(default_factory=dict)
    sums: np.ndarray | None = field(default=None, repr=False)
    gate: GateVerdict | None = None


class VolumePipeline(Pipeline):
    """The steps around a 3D network, whose window moves over a scan."""

    def plan(self, sequence: ImageSequence, *, force: bool = False) -> VolumePlan:
        """Find the gantry tilt of a scan from its geometry."""
        return VolumePlan(correct_gantry_tilt(sequence)[1])

    def run(
        self,
        source: ImageSequence,
        plan: VolumePlan,
        *,
        probabilities: bool = False,
        on_frame: Callable[[int], None] | None = None,
    ) -> VolumeResult:
        """Segment all slices together.

        Args:
            source: The scan; its slices are decoded once, one at a time.
            plan: Made by `plan` for this scan.
            probabilities: Whether to work out class probabilities too.
            on_frame: Called with the number of slices done.

        Raises:
            FormatError: If a slice cannot be decoded, or the scan is not what the network takes.
            GeometryError: If a step needs a spacing and there is none.
            SpecError: If the network's logits have another shape than the spec says.
        """
        spec, correction = self.spec, plan.correction
        watch = Stopwatch(STAGES[:-1])
        straight = source if correction is None else correction.straighten(source)
        with watch.running("preprocess"):
            # Slices are decoded and forgotten on the way to the network's grid.
            prepared = prepare_volume(watch.time_frames(straight, "decode"), spec, half=plan.half)
        verdicts: list[GateVerdict] = []
        slabs = predict_slabs(
            self._judged(self._predict, verdicts),
            prepared.read,
            prepared.transform.tensor_shape,
            plan_window(spec),
            on_window=lambda done, of: on_frame(len(source) * done // of) if on_frame else None,
            run=lambda work, origins: watch.time_items(_run_windows(work, origins), "network"),
        )
        with watch.running("postprocess"):
            transform, warnings = prepared.transform, prepared.warnings
            chances = None
            if probabilities:
                chances = self._allocate_probabilities(transform.source_shape)
            described: list[np.ndarray] = []
            seen = describe_slabs(slabs, described) if self.describes else slabs
            labels = self.restore(seen, transform, probabilities=chances)
            del prepared, slabs, seen  # the scan need not be held beside what repairs take
            trim_heap()
            grid = grid_of(straight, spatial_dims=3, spacing_mm=straight.voxel_mm)
            labels, edits = self._edit(labels, grid)
            if correction is not None:
                labels = correction.undo(labels)
                chances = None if chances is None else correction.undo(chances)
            blank_unknown(labels, chances, source)
        sums = np.sum(described, axis=0) if described else None
        sure: Confidences = {}
        if self.estimator is not None and sums is not None:
            sure = self.estimator.assess(sums, scan=True)
        far = median_verdict(verdicts)
        return VolumeResult(labels, watch.spent_ms, edits, warnings, chances, sure, sums, far)

    def _judged(
        self, predict: Callable[[np.ndarray], np.ndarray], verdicts: list[GateVerdict]
    ) -> Callable[[np.ndarray], np.ndarray]:
        """The network, each window of which is judged by the gate, if there is one."""
        judge = self.judge
        if judge is None:
            return predict

        def run(tensor: np.ndarray) -> np.ndarray:
            logits = predict(tensor)
            verdicts.extend(judge.judge_window(tensor[0], logits[0]))
            return logits

        return run

    def restore(
        self,
        logits: Iterable[np.ndarray],
        transform: VolumeTransform,
        *,
        probabilities: np.ndarray | None = None,
    ) -> np.ndarray:
        """Labels on the scan, (D, H, W) uint8, from logits slab by slab."""
        stride = self.spec.model.logit_stride
        return transform.restore(logits, stride=stride, probabilities=probabilities)

    def segment(
        self,
        sequence: ImageSequence,
        *,
        on_frame: Callable[[int], None] | None = None,
        force: bool = False,
        memory: MemoryPlan | None = None,
        probabilities: bool = False,
    ) -> Segmentation:
        """Segment all frames of a sequence together, as the slices of a scan."""
        spec = self.spec
        plan = replace(self.plan(sequence), half=memory is not None and memory.half)
        found = self.run(sequence, plan, probabilities=probabilities, on_frame=on_frame)
        log = EditLog(spec.labels, of_frames=1)
        log.add(found.edits)
        # What was resampled by a scale that is none is not measured by it.
        voxel_mm = None if sequence.default_grid else sequence.voxel_mm
        labelled = LabelMap(found.labels, None if voxel_mm is None else sequence.spacing_mm)
        whole, _, sums = self._sum_up([found], labelled, scan=True)
        stage_ms = {**found.stage_ms, "total": sum(found.stage_ms.values())}
        return Segmentation(
            labels=labelled,
            stage_ms={stage: np.array([span]) for stage, span in stage_ms.items()},
            region=Box(0, 0, *found.labels.shape[1:]),
            spacing_mm=voxel_mm,
            warnings=(*sequence.warnings, *found.warnings, *self._warn(labelled, sequence, whole)),
            changes=log.changes(spacing_mm=voxel_mm),
            memory=memory,
            probabilities=found.probabilities,
            confidence=whole,
            sums=sums,
            gate=found.gate,
        )

    def plan_memory(
        self,
        sequence: ImageSequence,
        *,
        base_bytes: int,
        max_bytes: int,
        probabilities: bool = False,
    ) -> MemoryPlan:
        """Predict the peak of resident memory of `segment`, and whether it needs 16 bits."""
        straight, correction = correct_gantry_tilt(sequence)
        if probabilities and correction is not None:
            # Those on the corrected grid and those on the stored one are held at the same time.
            frames, _, *plane = sequence.shape
            stored = (self.spec.model.num_classes, frames, *plane)
            base_bytes += math.prod(stored) * np.dtype(np.float32).itemsize
        return plan_volume(
            straight,
            plan_transform(straight, self.spec),
            self.spec,
            base_bytes=base_bytes,
            max_bytes=max_bytes,
            probabilities=probabilities,
        )


def _run_windows(
    work: Callable[[Shape], np.ndarray], origins: Sequence[Shape]
) -> Iterator[np.ndarray]:
    """Logits of one window after another, ahead of what is done with them if there are several."""
    return run_ahead(work, origins) if len(origins) > 1 else map(work, origins)
