"""THE DATA WAY in one screen: a bundle and the frames of an image in, labels in their place out.

open_session -> plan_preprocess -> for every frame: decode, apply, predict, restore, repair

A network of three axes takes all frames at once, as the slices of a scan:
open_session -> prepare_volume -> slab by slab: predict, restore -> repair
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from bedside.bundle import Bundle
from bedside.errors import ModalityError
from bedside.pipeline.memory import MemoryPlan, plan_frames, plan_volume, resident_bytes
from bedside.pipeline.postprocess import apply_postprocess
from bedside.pipeline.preprocess import Plan, plan_cine, see_neighbours
from bedside.pipeline.stopwatch import Stopwatch
from bedside.pipeline.volumes import foresee_placement, prepare_volume
from bedside.pipeline.windows import scan_slabs
from bedside.runtime import Session, open_session
from bedside.spec import DeploymentSpec
from bedside.volume import Box, Cine, LabelMap

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
            taken whole; None if it cannot be trusted.
        warnings: What was fixed, doubted or not found, in sentences for a person.
    """

    labels: LabelMap
    stage_ms: Mapping[str, np.ndarray] = field(repr=False)
    region: Box
    spacing_mm: tuple[float, ...] | None
    warnings: tuple[str, ...]


def open_segmenter(
    bundle: Bundle, *, backend: str = "auto", precision: str = "auto", threads: int | None = None
) -> "Segmenter":
    """Load a bundle.

    Args:
        bundle: What to run.
        backend: Name of a runtime, or "auto".
        precision: "f32", "bf16", "int8", or "auto".
        threads: Threads of the runtime; None for every core this process may use.

    Raises:
        BackendError: If the runtime is not installed.
    """
    session = open_session(bundle, backend=backend, precision=precision, threads=threads)
    return Segmenter(bundle.spec, session)


class Segmenter:
    """A deployment, loaded once, ready for any number of sequences.

    Args:
        spec: The steps around the network, and its labels.
        session: The network, ready to run.
    """

    def __init__(self, spec: DeploymentSpec, session: Session) -> None:
        self.spec = spec
        self.session = session

    def plan(self, cine: Cine, *, force: bool = False) -> Plan:
        """Look at a few frames and fill in the numbers of the preprocessing.

        Raises:
            ModalityError: If the image is of another kind than the bundle's, and not `force`.
        """
        self._check_modality(cine, force=force)
        return plan_cine(cine, self.spec, force=force)

    def segment_frame(self, frame: np.ndarray, plan: Plan) -> tuple[np.ndarray, list[float]]:
        """Segment one decoded frame.

        Args:
            frame: (C, H, W).
            plan: Made by `plan` for the sequence that the frame belongs to.

        Returns:
            (H, W) uint8 labels, and the moments at which preprocessing began, the network
            began, postprocessing began, and all was done, in seconds.
        """
        spec = self.spec
        moments = [time.perf_counter()]
        tensor = plan.apply(frame)
        moments.append(time.perf_counter())
        logits = self.session.predict(tensor)[0]
        moments.append(time.perf_counter())
        labels = plan.placement.restore(logits, stride=spec.model.logit_stride)
        values = [label.value for label in spec.labels]
        labels = apply_postprocess(labels, spec.postprocess, label_values=values)
        moments.append(time.perf_counter())
        return labels, moments

    def segment_cine(
        self,
        cine: Cine,
        *,
        on_frame: Callable[[int], None] | None = None,
        force: bool = False,
        max_bytes: int | None = None,
    ) -> Segmentation:
        """Segment every frame.

        Args:
            cine: The frames, decoded as they are needed.
            on_frame: Called with the number of frames done.
            force: Go on where the image is of another kind than the bundle's.
            max_bytes: Resident memory that the process must not exceed; None for no ceiling.

        Raises:
            ModalityError: If the image is of another kind than the bundle's, and not `force`.
            FormatError: If a frame cannot be decoded.
            MemoryLimitError: If it cannot be done in `max_bytes`.
        """
        self._check_modality(cine, force=force)
        memory = self.plan_memory(cine, max_bytes=max_bytes)
        if self.spec.model.axes == 3:
            return self._segment_volume(cine, memory, on_frame=on_frame)
        cine = see_neighbours(cine, self.spec.input.neighbours)
        plan = self.plan(cine, force=force)
        frames, _, height, width = cine.shape
        labels = np.zeros((frames, height, width), np.uint8)
        stage_ms = {stage: np.zeros(frames) for stage in STAGES}
        for index in range(frames):
            begin = time.perf_counter()
            frame = cine.decode(index)
            labels[index], moments = self.segment_frame(frame, plan)
            spans = np.diff([begin, *moments])
            for stage, span in zip(STAGES, [*spans, spans.sum()], strict=True):
                stage_ms[stage][index] = 1e3 * span
            if on_frame:
                on_frame(index + 1)
        return Segmentation(
            labels=LabelMap(labels, cine.spacing_mm),
            stage_ms=stage_ms,
            region=plan.placement.box,
            spacing_mm=cine.spacing_mm,
            warnings=(*cine.warnings, *plan.warnings, *self._missing(labels)),
        )

    def plan_memory(self, cine: Cine, *, max_bytes: int | None = None) -> MemoryPlan | None:
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
        if spec.model.axes == 2:
            return plan_frames(cine, base_bytes=base_bytes, max_bytes=max_bytes)
        placement = foresee_placement(cine, spec)
        return plan_volume(cine, placement, spec, base_bytes=base_bytes, max_bytes=max_bytes)

    def _segment_volume(
        self,
        cine: Cine,
        memory: MemoryPlan | None,
        *,
        on_frame: Callable[[int], None] | None,
    ) -> Segmentation:
        """Segment all frames together, as the slices of a scan."""
        spec = self.spec
        watch = Stopwatch(STAGES[:-1])
        with watch.running("preprocess"):
            # Slices are decoded and forgotten on the way to the network's grid.
            prepared = prepare_volume(
                watch.time_frames(cine, "decode"), spec, half=memory is not None and memory.half
            )
        slabs = scan_slabs(
            watch.time_calls(self.session.predict, "network"),
            prepared.read,
            prepared.placement.tensor_shape,
            spec,
            on_window=lambda done, of: on_frame(len(cine) * done // of) if on_frame else None,
        )
        with watch.running("postprocess"):
            labels = prepared.placement.restore(slabs, stride=spec.model.logit_stride)
            notes = prepared.warnings
            del prepared, slabs  # the scan need not be held beside what repairs take
            values = [label.value for label in spec.labels]
            labels = apply_postprocess(labels, spec.postprocess, label_values=values)
        spent = watch.spent_ms
        stage_ms = {**spent, "total": sum(spent.values())}
        return Segmentation(
            labels=LabelMap(labels, cine.spacing_mm),
            stage_ms={stage: np.array([span]) for stage, span in stage_ms.items()},
            region=Box(0, 0, labels.shape[1], labels.shape[2]),
            spacing_mm=cine.voxel_mm,
            warnings=(*cine.warnings, *notes, *self._missing(labels)),
        )

    def _check_modality(self, cine: Cine, *, force: bool) -> None:
        wanted = self.spec.input.modality
        if cine.modality is not None and cine.modality != wanted and not force:
            raise ModalityError(
                f'modality is {cine.modality}, bundle "{self.spec.name}" is for {wanted}. '
                "Choose another bundle, or pass --force."
            )

    def _missing(self, labels: np.ndarray) -> list[str]:
        """Name the structures that were found in no frame."""
        present = set(np.unique(labels).tolist())
        return [
            f"{label.name} was found in no frame."
            for label in self.spec.labels
            if label.value not in present
        ]
