"""Frame by frame: preprocess, predict, refine, restore, repair; memory only."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from bedside.errors import FrameError
from bedside.pipeline.coarse import Coarse, coarsen
from bedside.pipeline.confidence import describe_coarse
from bedside.pipeline.frames.marker import MARKER_FRAMES, check_marker
from bedside.pipeline.frames.plan import FramePlan, plan_sequence, sample_frames, stack_neighbours
from bedside.pipeline.frames.transform import FrameTransform
from bedside.pipeline.gate import GateVerdict, choose_frames, median_verdict
from bedside.pipeline.memory import MemoryPlan, plan_frames
from bedside.pipeline.postprocess import (
    EditLog,
    LabelEdit,
    LabelGrid,
    apply_postprocess,
    grid_of,
)
from bedside.pipeline.protocol import STAGES, Pipeline, Segmentation, blank_unknown
from bedside.pipeline.refine import refine_logits
from bedside.spec import KeepLargestInScan
from bedside.spec.confidence import Confidences
from bedside.volume import Change, ImageSequence, LabelMap


@dataclass(frozen=True)
class FrameBuffers:
    """Arrays that `FramePipeline.run` writes to, so that a loop over frames allocates none.

    Attributes:
        tensor: (1, channels, height, width) float32, as the network takes it.
        logits: (1, K, height / stride, width / stride) float32, as the network gives them.
        labels: (H, W) uint8 on the source grid.
        probabilities: (K, H, W) float32 on the source grid.
    """

    tensor: np.ndarray | None = None
    logits: np.ndarray | None = None
    labels: np.ndarray | None = None
    probabilities: np.ndarray | None = None


@dataclass(frozen=True)
class Predicted:
    """What the network made of a tensor.

    Attributes:
        tensor: (1, C, height, width).
        logits: (1, K, height / stride, width / stride).
        network_ms: Time that it took.
    """

    tensor: np.ndarray
    logits: np.ndarray
    network_ms: float


@dataclass(frozen=True)
class FrameResult:
    """Result of one frame.

    Attributes:
        labels: (H, W) uint8 on the source grid.
        stage_ms: Time of each of "preprocess", "network" and "postprocess", in ms.
        edits: What repairs changed, and what priors found odd.
        probabilities: (K, H, W) float32, background first, before repairs; None unless they
            were asked for.
        gate: How far the frame is from what the network was made for; None unless asked for.
        confidence: How far each structure is to be trusted; empty without a calibration.
        sums: (K - 1, statistics) that it follows from; None without a calibration.
    """

    labels: np.ndarray
    stage_ms: Mapping[str, float]
    edits: list[LabelEdit]
    probabilities: np.ndarray | None = field(default=None, repr=False)
    gate: GateVerdict | None = None
    confidence: Confidences = field(default_factory=dict)
    sums: np.ndarray | None = field(default=None, repr=False)


class FramePipeline(Pipeline):
    """The steps around a 2D network.

    A plan need not come from `plan`: any `FramePlan` for the frames' kind will do, so that frames
    that keep coming can be planned for from those seen so far, and planned for again.
    """

    def plan(self, sequence: ImageSequence, *, force: bool = False) -> FramePlan:
        """Plan the preprocessing of a sequence from a few of its frames.

        Raises:
            ModalityError: If they look like another kind of image, and not `force`.
            FormatError: If they are not of one kind, or too many values are no numbers.
        """
        return self._plan(sequence, force=force)[0]

    def _plan(self, sequence: ImageSequence, *, force: bool) -> tuple[FramePlan, list[Predicted]]:
        """Plan as `plan` does; what the network has made of tensors for it."""
        plan = plan_sequence(sequence, self.spec, force=force)
        if self.spec.marker is None:
            return plan, []
        return self._check_marker(plan, list(sample_frames(sequence, MARKER_FRAMES)))

    def check_marker(self, plan: FramePlan, frames: Sequence[np.ndarray]) -> FramePlan:
        """Plan for mirrored frames if the view is mirrored, and the bundle checks that.

        Args:
            plan: For the frames as they are.
            frames: (C, H, W) decoded frames of the view, at least one.
        """
        return self._check_marker(plan, frames)[0]

    def _check_marker(
        self, plan: FramePlan, frames: Sequence[np.ndarray]
    ) -> tuple[FramePlan, list[Predicted]]:
        """Plan for mirrored frames if need be; what the network has made of tensors for it."""
        known: list[Predicted] = []
        if self.spec.marker is None:
            return plan, known

        def predict(tensor: np.ndarray) -> np.ndarray:
            known.append(self._time_network(tensor, None))
            return known[-1].logits

        return check_marker(plan, frames, self.spec.marker, predict), known

    def _time_network(self, tensor: np.ndarray, out: np.ndarray | None) -> Predicted:
        begin = time.perf_counter()
        logits = self._predict(tensor, out)
        return Predicted(tensor, logits, 1e3 * (time.perf_counter() - begin))

    def make_buffers(self, plan: FramePlan, *, probabilities: bool = False) -> FrameBuffers:
        """Buffers for the frames of a plan, used by one thread at a time."""
        spec, shape = self.spec, plan.transform.source_shape
        coarse = [size // spec.model.logit_stride for size in spec.input.size_px]
        return FrameBuffers(
            tensor=np.empty((1, spec.input.channels, *spec.input.size_px), np.float32),
            logits=np.empty((1, spec.model.num_classes, *coarse), np.float32),
            labels=np.empty(shape, np.uint8),
            probabilities=self._allocate_probabilities(shape) if probabilities else None,
        )

    def run(
        self,
        source: np.ndarray,
        plan: FramePlan,
        *,
        grid: LabelGrid | None = None,
        probabilities: bool = False,
        out: FrameBuffers | None = None,
        adjust: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None,
        judge: bool = False,
        known: Sequence[Predicted] = (),
    ) -> FrameResult:
        """Segment one decoded frame.

        Args:
            source: (C, H, W), of the kind that the plan is for; not changed.
            plan: For the sequence that the frame belongs to.
            grid: Scale and direction of the frame; None if nothing is known of them.
            probabilities: Whether to work out class probabilities too, if `out` has no array for
                them.
            out: Arrays that the result is written to; what is None is allocated.
            adjust: Makes the logits that count from the tensor, (1, C, h, w), and the network's,
                (K, h / stride, w / stride), which it may keep no longer than its call.
            judge: Whether the bundle's gate, if it has one, judges the frame.
            known: What the network made of some tensors; one of these is not run again.

        Raises:
            FrameError: If the frame is not of the kind that the plan was made for, or the plan
                is another bundle's.
            FormatError: If too many of its values are no numbers.
            SpecError: If the network's logits have another shape than the spec says.
        """
        spec, out = self.spec, out or FrameBuffers()
        self._check_plan(plan)
        moments = [time.perf_counter()]
        tensor = plan.apply(source, out=out.tensor)
        shown = _turn(tensor, plan)
        moments.append(time.perf_counter())
        found = _find_known(shown, known) or self._time_network(shown, out.logits)
        predicted = np.asarray(found.logits[0])
        moments.append(time.perf_counter())
        coarse, verdict = self._look(shown[0], predicted, plan, judge=judge)
        logits = _turn(predicted, plan)
        if spec.refine:
            logits = refine_logits(logits, tensor, spec.refine, stride=spec.model.logit_stride)
        if adjust is not None:
            logits = adjust(tensor, logits)
        if coarse is not None and self.describes and (spec.refine or adjust is not None):
            coarse = coarsen(shown[0], _turn(logits, plan))
        sums = describe_coarse(coarse) if self.describes and coarse else None
        chances = out.probabilities
        if probabilities and chances is None:
            chances = self._allocate_probabilities(plan.transform.source_shape)
        labels = self.restore(logits, plan.transform, probabilities=chances, out=out.labels)
        labels, edits = self._edit(labels, grid)
        moments.append(time.perf_counter())
        spans = dict(zip(STAGES[1:-1], 1e3 * np.diff(moments), strict=True))
        stage_ms = spans | {"network": found.network_ms}
        sure = {} if self.estimator is None or sums is None else self.estimator.assess(sums)
        return FrameResult(labels, stage_ms, edits, chances, verdict, sure, sums)

    def _check_plan(self, plan: FramePlan) -> None:
        if plan.input != self.spec.input:
            raise FrameError(
                f"the plan is for {plan.input}, this bundle takes {self.spec.input}. Make a plan "
                "with this bundle's segmenter."
            )

    def _look(
        self, image: np.ndarray, logits: np.ndarray, plan: FramePlan, *, judge: bool
    ) -> tuple[Coarse | None, GateVerdict | None]:
        """Frame and logits on the coarse grid, and the gate's verdict, as far as they are needed.

        Both are as the network saw them, mirrored where the plan is.
        """
        gate = self.judge if judge else None
        if gate is None and not self.describes:
            return None, None
        coarse = coarsen(image, logits)
        if gate is None:
            return coarse, None
        shape = plan.transform.source_shape
        return coarse, gate.judge(image, logits, coarse=coarse, frame_px=shape)

    def restore(
        self,
        logits: np.ndarray,
        transform: FrameTransform,
        *,
        probabilities: np.ndarray | None = None,
        out: np.ndarray | None = None,
    ) -> np.ndarray:
        """Labels on the frame, (H, W) uint8, written to `out` if it is given."""
        stride = self.spec.model.logit_stride
        return transform.restore(logits, stride=stride, probabilities=probabilities, out=out)

    def segment(
        self,
        sequence: ImageSequence,
        *,
        on_frame: Callable[[int], None] | None = None,
        force: bool = False,
        memory: MemoryPlan | None = None,
        probabilities: bool = False,
    ) -> Segmentation:
        """Segment every frame of a sequence, one by one."""
        spec = self.spec
        sequence = stack_neighbours(sequence, spec.input.neighbours)
        plan, known = self._plan(sequence, force=force)
        frames, _, *plane = sequence.shape
        known = known if frames == 1 else []
        labels = np.zeros((frames, *plane), np.uint8)
        chances = self._allocate_probabilities(labels.shape) if probabilities else None
        stage_ms = {stage: np.zeros(frames) for stage in STAGES}
        grid = grid_of(sequence, spatial_dims=2, spacing_mm=sequence.spacing_mm)
        log = EditLog(spec.labels, of_frames=frames)
        shares = None if sequence.uneven is None else sequence.uneven.shares
        judged, sure = choose_frames(frames), list[FrameResult]()
        for index in range(frames):
            begin = time.perf_counter()
            frame = sequence.decode(index)
            spans = {"decode": 1e3 * (time.perf_counter() - begin)}
            own = None if chances is None else chances[:, index]
            out = FrameBuffers(labels=labels[index], probabilities=own)
            found = self.run(frame, plan, grid=grid, out=out, judge=index in judged, known=known)
            sure.append(replace(found, probabilities=None))
            spans |= found.stage_ms
            for stage, span in {**spans, "total": sum(spans.values())}.items():
                stage_ms[stage][index] = span
            log.add(found.edits, share=1.0 if shares is None else float(shares[index]))
            if on_frame:
                on_frame(index + 1)
        blank_unknown(labels, chances, sequence)
        repaired = self._repair_scan(labels, sequence, stage_ms)
        slice_mm = sequence.slice_spacing_mm if frames > 1 else None
        changes = log.changes(spacing_mm=sequence.spacing_mm, slice_mm=slice_mm)
        labelled = LabelMap(labels, sequence.spacing_mm)
        whole, by_frame, sums = self._sum_up(sure, labelled, scan=sequence.has_slices)
        verdicts = [found.gate for found in sure]
        return Segmentation(
            labels=labelled,
            stage_ms=stage_ms,
            region=plan.transform.box,
            spacing_mm=sequence.spacing_mm,
            warnings=(*sequence.warnings, *plan.warnings, *self._warn(labelled, sequence, whole)),
            changes=(*changes, *repaired),
            memory=memory,
            probabilities=chances,
            gate=median_verdict([verdict for verdict in verdicts if verdict is not None]),
            foreign_frames=() if sequence.has_slices else self._find_foreign(verdicts),
            confidence=whole,
            frame_confidence=by_frame,
            sums=sums,
        )

    def _find_foreign(self, verdicts: Sequence[GateVerdict | None]) -> tuple[int, ...]:
        """Frames that are farther from the training images than the gate allows."""
        if self.judge is None:
            return ()
        most = self.judge.gate.threshold
        return tuple(
            index
            for index, verdict in enumerate(verdicts)
            if verdict is not None and verdict.distance > most
        )

    def _repair_scan(
        self, labels: np.ndarray, sequence: ImageSequence, stage_ms: Mapping[str, np.ndarray]
    ) -> tuple[Change, ...]:
        """Run the repairs that need all slices of a scan, in place; their time is the last one's.

        Frames that are no slices stay as they are.
        """
        begin = time.perf_counter()
        steps = [step for step in self.spec.postprocess if isinstance(step, KeepLargestInScan)]
        if not steps or not sequence.has_slices:
            return ()
        values = [label.value for label in self.spec.labels]
        grid = LabelGrid(uneven=sequence.uneven)
        _, edits = apply_postprocess(labels, steps, label_values=values, grid=grid, in_place=True)
        log = EditLog(self.spec.labels, of_frames=1)
        log.add(edits)
        for stage in ("postprocess", "total"):
            stage_ms[stage][-1] += 1e3 * (time.perf_counter() - begin)
        return log.changes(spacing_mm=sequence.voxel_mm)

    def plan_memory(
        self,
        sequence: ImageSequence,
        *,
        base_bytes: int,
        max_bytes: int,
        probabilities: bool = False,
    ) -> MemoryPlan:
        """Predict the peak of resident memory of `segment`."""
        classes = self.spec.model.num_classes if probabilities else 0
        return plan_frames(sequence, base_bytes=base_bytes, max_bytes=max_bytes, classes=classes)


def _turn(planes: np.ndarray, plan: FramePlan) -> np.ndarray:
    """Planes, (..., H, W), of a mirrored view as the network sees them, or turned back."""
    return np.ascontiguousarray(planes[..., ::-1]) if plan.mirrored else planes


def _find_known(tensor: np.ndarray, known: Sequence[Predicted]) -> Predicted | None:
    """What the network made of the same numbers, if that is known."""
    return next((each for each in known if np.array_equal(each.tensor, tensor)), None)
