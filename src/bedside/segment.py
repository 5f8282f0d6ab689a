"""THE DATA WAY in one screen: a bundle and the frames of an image in, labels in their place out.

open_session -> plan_preprocess
-> for every frame: decode, apply, predict, refine, restore, repair

A network of three axes takes all frames at once, as the slices of a scan:
open_session -> prepare_volume -> slab by slab: predict, restore -> repair
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from bedside.bundle import Bundle
from bedside.errors import FrameError, GeometryError, ModalityError, SpecError
from bedside.io.laterality import find_sides
from bedside.pipeline.axis_roles import resolve_axes
from bedside.pipeline.memory import MemoryPlan, plan_frames, plan_volume
from bedside.pipeline.postprocess import EditLog, LabelEdit, LabelGrid, apply_postprocess, grid_of
from bedside.pipeline.preprocess import FramePlan, plan_sequence, stack_neighbours
from bedside.pipeline.refine import refine_logits
from bedside.pipeline.sliding_window import scan_slabs
from bedside.pipeline.stopwatch import Stopwatch
from bedside.pipeline.tilt import correct_gantry_tilt
from bedside.pipeline.volumes import plan_transform, prepare_volume
from bedside.runtime import Session, open_session
from bedside.runtime.execution_modes import certificate_warnings
from bedside.spec import DeploymentSpec
from bedside.system.process_memory import resident_bytes, trim_heap
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
    """

    labels: LabelMap
    stage_ms: Mapping[str, np.ndarray] = field(repr=False)
    region: Box
    spacing_mm: tuple[float, ...] | None
    warnings: tuple[str, ...]
    changes: tuple[Change, ...] = ()
    memory: MemoryPlan | None = None


def open_segmenter(
    bundle: Bundle,
    *,
    backend: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    on_choice: Callable[[str], None] = lambda text: None,
) -> "Segmenter":
    """Load a bundle.

    Args:
        bundle: What to run.
        backend: Name of a runtime, or "auto".
        precision: "f32", "bf16", "int8", "auto" for what is the fastest here, or "default" for
            what is the fastest as a rule, without timing anything.
        threads: Threads of the runtime; None for every core this process may use.
        on_choice: Called with a sentence if ways to run it were timed, and one was chosen.

    Raises:
        BackendError: If the runtime is not installed.
    """
    session = open_session(
        bundle, backend=backend, precision=precision, threads=threads, on_choice=on_choice
    )
    warnings = certificate_warnings(bundle, session.backend, session.precision)
    return Segmenter(bundle.spec, session, warnings=warnings)


class Segmenter:
    """A deployment, loaded once, ready for any number of sequences.

    Args:
        spec: The steps around the network, and its labels.
        session: The network, ready to run.
        warnings: What stands in every result, in sentences for a person.
    """

    def __init__(
        self, spec: DeploymentSpec, session: Session, *, warnings: Sequence[str] = ()
    ) -> None:
        self.spec = spec
        self.session = session
        self.warnings = tuple(warnings)

    def resolve_axes(self, sequence: ImageSequence) -> ImageSequence:
        """Decide what an image's axes and scale mean here, where its file leaves it open.

        Raises:
            GeometryError: If frames follow in time, and the bundle takes the slices of a scan.
        """
        return resolve_axes(sequence, self.spec)

    def plan(self, sequence: ImageSequence, *, force: bool = False) -> FramePlan:
        """Look at a few frames and fill in the numbers of the preprocessing.

        Raises:
            ModalityError: If the image is of another kind than the bundle's, and not `force`.
        """
        self._check_modality(sequence, force=force)
        return plan_sequence(sequence, self.spec, force=force)

    def segment_frame(
        self, frame: np.ndarray, plan: FramePlan, *, grid: LabelGrid | None = None
    ) -> tuple[np.ndarray, list[float], list[LabelEdit]]:
        """Segment one decoded frame.

        Args:
            frame: (C, H, W).
            plan: Made by `plan` for the sequence that the frame belongs to; any number of
                threads may use one.
            grid: Scale and direction of the frame; None if nothing is known of them.

        Returns:
            (H, W) uint8 labels; the moments at which preprocessing began, the network
            began, postprocessing began, and all was done, in seconds; and what was repaired.

        Raises:
            FrameError: If the frame is not of the kind that the plan was made for, or the plan
                is another bundle's.
            FormatError: If too many of its values are no numbers.
        """
        if plan.input != self.spec.input:
            raise FrameError(
                f"the plan is for {plan.input}, this bundle takes {self.spec.input}. Make a plan "
                "with this bundle's segmenter."
            )
        spec = self.spec
        moments = [time.perf_counter()]
        tensor = plan.apply(frame)
        moments.append(time.perf_counter())
        logits = self._predict(tensor)[0]
        moments.append(time.perf_counter())
        if spec.refine:
            logits = refine_logits(logits, tensor, spec.refine, stride=spec.model.logit_stride)
        labels = plan.transform.restore(logits, stride=spec.model.logit_stride)
        labels, edits_made = self._repair(labels, grid)
        moments.append(time.perf_counter())
        return labels, moments, edits_made

    def segment_sequence(
        self,
        sequence: ImageSequence,
        *,
        on_frame: Callable[[int], None] | None = None,
        force: bool = False,
        max_bytes: int | None = None,
    ) -> Segmentation:
        """Segment every frame.

        Args:
            sequence: The frames, decoded as they are needed.
            on_frame: Called with the number of frames done.
            force: Go on where the image is of another kind than the bundle's.
            max_bytes: Resident memory that the process must not exceed; None for no ceiling.

        Raises:
            ModalityError: If the image is of another kind than the bundle's, and not `force`.
            GeometryError: If frames follow in time, and the bundle takes the slices of a scan, or
                the scan lies nowhere and structures differ in their side only.
            FormatError: If a frame cannot be decoded.
            MemoryLimitError: If it cannot be done in `max_bytes`.
        """
        self._check_modality(sequence, force=force)
        sequence = self.resolve_axes(sequence)
        memory = self.plan_memory(sequence, max_bytes=max_bytes)
        if self.spec.model.spatial_dims == 3:
            self._check_place(sequence, force=force)
            return self._segment_volume(sequence, memory, on_frame=on_frame)
        sequence = stack_neighbours(sequence, self.spec.input.neighbours)
        plan = plan_sequence(sequence, self.spec, force=force)
        frames, _, height, width = sequence.shape
        labels = np.zeros((frames, height, width), np.uint8)
        stage_ms = {stage: np.zeros(frames) for stage in STAGES}
        grid = grid_of(sequence, spatial_dims=2, spacing_mm=sequence.spacing_mm)
        edits = EditLog(self.spec.labels, of_frames=frames)
        shares = None if sequence.uneven is None else sequence.uneven.shares
        for index in range(frames):
            begin = time.perf_counter()
            frame = sequence.decode(index)
            labels[index], moments, edits_made = self.segment_frame(frame, plan, grid=grid)
            edits.add(edits_made, share=1.0 if shares is None else float(shares[index]))
            spans = np.diff([begin, *moments])
            for stage, span in zip(STAGES, [*spans, spans.sum()], strict=True):
                stage_ms[stage][index] = 1e3 * span
            if on_frame:
                on_frame(index + 1)
        labels[list(sequence.unknown)] = 0
        labelled = LabelMap(labels, sequence.spacing_mm)
        return Segmentation(
            labels=labelled,
            stage_ms=stage_ms,
            region=plan.transform.box,
            spacing_mm=sequence.spacing_mm,
            warnings=(
                *self.warnings,
                *sequence.warnings,
                *plan.warnings,
                *self._missing(labelled, sequence),
            ),
            changes=edits.changes(
                spacing_mm=sequence.spacing_mm,
                slice_mm=sequence.slice_spacing_mm if frames > 1 else None,
            ),
            memory=memory,
        )

    def plan_memory(
        self, sequence: ImageSequence, *, max_bytes: int | None = None
    ) -> MemoryPlan | None:
        """Predict the peak of resident memory, and choose how to stay under a ceiling.

        One window is run first, so that what the runtime takes is measured and not guessed.

        Returns:
            None without a ceiling: nothing has to be known then.

        Raises:
            MemoryLimitError: If it cannot be done in `max_bytes`.
        """
        if max_bytes is None:
            return None
        spec = self.spec
        self.session.predict(np.zeros((1, spec.input.channels, *spec.input.size_px), np.float32))
        base_bytes = resident_bytes()
        if spec.model.spatial_dims == 2:
            return plan_frames(sequence, base_bytes=base_bytes, max_bytes=max_bytes)
        sequence, _ = correct_gantry_tilt(sequence)
        transform = plan_transform(sequence, spec)
        return plan_volume(sequence, transform, spec, base_bytes=base_bytes, max_bytes=max_bytes)

    def _segment_volume(
        self,
        sequence: ImageSequence,
        memory: MemoryPlan | None,
        *,
        on_frame: Callable[[int], None] | None,
    ) -> Segmentation:
        """Segment all frames together, as the slices of a scan."""
        spec = self.spec
        watch = Stopwatch(STAGES[:-1])
        straight, correction = correct_gantry_tilt(sequence)
        with watch.running("preprocess"):
            # Slices are decoded and forgotten on the way to the network's grid.
            prepared = prepare_volume(
                watch.time_frames(straight, "decode"),
                spec,
                half=memory is not None and memory.half,
            )
        slabs = scan_slabs(
            watch.time_calls(self._predict, "network"),
            prepared.read,
            prepared.transform.tensor_shape,
            spec,
            on_window=lambda done, of: on_frame(len(sequence) * done // of) if on_frame else None,
        )
        with watch.running("postprocess"):
            labels = prepared.transform.restore(slabs, stride=spec.model.logit_stride)
            notes = prepared.warnings
            del prepared, slabs  # the scan need not be held beside what repairs take
            trim_heap()
            grid = grid_of(straight, spatial_dims=3, spacing_mm=straight.voxel_mm)
            labels, edits_made = self._repair(labels, grid)
            edits = EditLog(spec.labels, of_frames=1)
            edits.add(edits_made)
            if correction is not None:
                labels = correction.undo(labels)
            labels[list(sequence.unknown)] = 0
            # What was resampled by a scale that is none is not measured by it.
            voxel_mm = None if sequence.default_grid else sequence.voxel_mm
            labelled = LabelMap(labels, None if voxel_mm is None else sequence.spacing_mm)
            missing = self._missing(labelled, sequence)
        spent = watch.spent_ms
        stage_ms = {**spent, "total": sum(spent.values())}
        return Segmentation(
            labels=labelled,
            stage_ms={stage: np.array([span]) for stage, span in stage_ms.items()},
            region=Box(0, 0, labels.shape[1], labels.shape[2]),
            spacing_mm=voxel_mm,
            warnings=(*self.warnings, *sequence.warnings, *notes, *missing),
            changes=edits.changes(spacing_mm=voxel_mm),
            memory=memory,
        )

    def _predict(self, tensor: np.ndarray) -> np.ndarray:
        """Run the network, and make sure that it is the one that the spec tells of.

        Raises:
            SpecError: If its logits have another shape.
        """
        logits = self.session.predict(tensor)
        model = self.spec.model
        sizes = (size // model.logit_stride for size in tensor.shape[2:])
        expected = (len(tensor), model.num_classes, *sizes)
        if logits.shape != expected:
            raise SpecError(
                f"the network gives logits of {logits.shape}; by the spec of {self.spec.name} they "
                f"are {expected}. It belongs to another spec."
            )
        return logits

    def _repair(
        self, labels: np.ndarray, grid: LabelGrid | None
    ) -> tuple[np.ndarray, list[LabelEdit]]:
        """Repair labels and check priors, as the spec says."""
        return apply_postprocess(
            labels,
            self.spec.postprocess,
            label_values=[label.value for label in self.spec.labels],
            priors=self.spec.priors,
            grid=grid,
            in_place=True,
        )

    def _check_modality(self, sequence: ImageSequence, *, force: bool) -> None:
        wanted = self.spec.input.modality
        if sequence.modality is not None and sequence.modality != wanted and not force:
            raise ModalityError(
                f'modality is {sequence.modality}, bundle "{self.spec.name}" is for {wanted}. '
                "Choose another bundle, or pass --force."
            )

    def _check_place(self, sequence: ImageSequence, *, force: bool) -> None:
        """Refuse a scan that lies nowhere for structures that are told apart by side."""
        pair = find_sides(self.spec.labels)
        if pair is not None and sequence.geometry is None and not force:
            raise GeometryError(
                f'the scan does not say how it lies in the patient, so "{pair[0]}" cannot be told '
                f'from "{pair[1]}". Give it a place (Cine.from_array takes an affine and its '
                "space), or pass --force."
            )

    def _missing(self, labels: LabelMap, sequence: ImageSequence) -> list[str]:
        """Name the structures that were found nowhere."""
        counts = labels.counts.sum(axis=0)
        return [
            f"{label.name} was not found{'' if len(sequence) == 1 else f' in any {sequence.unit}'}."
            for label in self.spec.labels
            if not counts[label.value]
        ]
