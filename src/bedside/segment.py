"""THE DATA WAY in one screen: a bundle and the frames of an image in, labels in their place out.

open_session -> plan_preprocess
-> for every frame: decode, apply, predict, refine, restore, repair

A network of three axes takes all frames at once, as the slices of a scan:
open_session -> stack_volume -> prepare_volume -> predict_scan -> restore, repair
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from bedside.bundle import Bundle
from bedside.errors import ModalityError
from bedside.pipeline.postprocess import LabelGrid, Repair, Tally, apply_postprocess, grid_of
from bedside.pipeline.preprocess import Plan, plan_cine, see_neighbours
from bedside.pipeline.refine import refine_logits
from bedside.pipeline.volumes import prepare_volume
from bedside.pipeline.windows import predict_scan
from bedside.runtime import Session, open_session
from bedside.spec import DeploymentSpec
from bedside.volume import Box, Change, Cine, LabelMap, stack_volume

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
        changes: What repairs changed in the labels, and what priors found odd about them.
    """

    labels: LabelMap
    stage_ms: Mapping[str, np.ndarray] = field(repr=False)
    region: Box
    spacing_mm: tuple[float, ...] | None
    warnings: tuple[str, ...]
    changes: tuple[Change, ...] = ()


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

    def segment_frame(
        self, frame: np.ndarray, plan: Plan, *, grid: LabelGrid | None = None
    ) -> tuple[np.ndarray, list[float], list[Repair]]:
        """Segment one decoded frame.

        Args:
            frame: (C, H, W).
            plan: Made by `plan` for the sequence that the frame belongs to.
            grid: Scale and direction of the frame; None if nothing is known of them.

        Returns:
            (H, W) uint8 labels; the moments at which preprocessing began, the network
            began, postprocessing began, and all was done, in seconds; and what was repaired.
        """
        spec = self.spec
        moments = [time.perf_counter()]
        tensor = plan.apply(frame)
        moments.append(time.perf_counter())
        logits = self.session.predict(tensor)[0]
        moments.append(time.perf_counter())
        if spec.refine:
            logits = refine_logits(logits, tensor, spec.refine, stride=spec.model.logit_stride)
        labels = plan.placement.restore(logits, stride=spec.model.logit_stride)
        labels, repairs = self._repair(labels, grid)
        moments.append(time.perf_counter())
        return labels, moments, repairs

    def segment_cine(
        self,
        cine: Cine,
        *,
        on_frame: Callable[[int], None] | None = None,
        force: bool = False,
    ) -> Segmentation:
        """Segment every frame.

        Args:
            cine: The frames, decoded as they are needed.
            on_frame: Called with the number of frames done.
            force: Go on where the image is of another kind than the bundle's.

        Raises:
            ModalityError: If the image is of another kind than the bundle's, and not `force`.
            FormatError: If a frame cannot be decoded.
        """
        if self.spec.model.axes == 3:
            return self._segment_volume(cine, on_frame=on_frame, force=force)
        cine = see_neighbours(cine, self.spec.input.neighbours)
        plan = self.plan(cine, force=force)
        frames, _, height, width = cine.shape
        labels = np.zeros((frames, height, width), np.uint8)
        stage_ms = {stage: np.zeros(frames) for stage in STAGES}
        grid = grid_of(cine, axes=2, spacing_mm=cine.spacing_mm)
        tally = Tally(self.spec.labels, of_frames=frames)
        for index in range(frames):
            begin = time.perf_counter()
            frame = cine.decode(index)
            labels[index], moments, repairs = self.segment_frame(frame, plan, grid=grid)
            tally.add(repairs)
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
            changes=tally.changes(
                spacing_mm=cine.spacing_mm, slice_mm=cine.slice_spacing_mm if frames > 1 else None
            ),
        )

    def _segment_volume(
        self, cine: Cine, *, on_frame: Callable[[int], None] | None, force: bool
    ) -> Segmentation:
        """Segment all frames together, as the slices of a scan."""
        self._check_modality(cine, force=force)
        spec = self.spec
        moments = [time.perf_counter()]
        volume = stack_volume(cine)
        moments.append(time.perf_counter())
        prepared = prepare_volume(volume, spec)
        moments.append(time.perf_counter())
        logits = predict_scan(
            self.session.predict,
            prepared.tensor,
            spec,
            on_window=lambda done, of: on_frame(len(cine) * done // of) if on_frame else None,
        )
        moments.append(time.perf_counter())
        labels = prepared.placement.restore(logits, stride=spec.model.logit_stride)
        grid = grid_of(cine, axes=3, spacing_mm=volume.spacing_mm)
        labels, repairs = self._repair(labels, grid)
        tally = Tally(spec.labels, of_frames=1)
        tally.add(repairs)
        moments.append(time.perf_counter())
        spans = 1e3 * np.diff(moments)
        stage_ms = zip(STAGES, [*spans, spans.sum()], strict=True)
        return Segmentation(
            labels=LabelMap(labels, cine.spacing_mm),
            stage_ms={stage: np.array([span]) for stage, span in stage_ms},
            region=Box(0, 0, labels.shape[1], labels.shape[2]),
            spacing_mm=volume.spacing_mm,
            warnings=(*cine.warnings, *prepared.warnings, *self._missing(labels)),
            changes=tally.changes(spacing_mm=volume.spacing_mm),
        )

    def _repair(
        self, labels: np.ndarray, grid: LabelGrid | None
    ) -> tuple[np.ndarray, list[Repair]]:
        """Repair labels and check priors, as the spec says."""
        return apply_postprocess(
            labels,
            self.spec.postprocess,
            label_values=[label.value for label in self.spec.labels],
            priors=self.spec.priors,
            grid=grid,
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
