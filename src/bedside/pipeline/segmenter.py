"""A network with the steps around it, ready for any number of image sequences."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bedside.bundle import Bundle
from bedside.errors import BundleError, FrameError, ModalityError
from bedside.io.laterality import check_sides
from bedside.pipeline.axis_roles import resolve_axes
from bedside.pipeline.confidence import distrust
from bedside.pipeline.frames.pipeline import FramePipeline, FrameResult
from bedside.pipeline.frames.plan import FramePlan
from bedside.pipeline.gate import JUDGED_FRAMES, GateVerdict, explain
from bedside.pipeline.memory import MemoryPlan
from bedside.pipeline.postprocess import LabelGrid
from bedside.pipeline.protocol import Segmentation
from bedside.pipeline.scaled_region import drop_foreign_scale
from bedside.pipeline.table import create_pipeline
from bedside.runtime import Session, open_session
from bedside.runtime.execution_modes import certificate_warnings
from bedside.spec import DeploymentSpec
from bedside.spec.confidence import Confidence
from bedside.spec.gate import VERSION, Gate, GatePolicy
from bedside.system.process_memory import resident_bytes
from bedside.volume import ImageSequence


def open_segmenter(
    bundle: Bundle,
    *,
    backend: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    gate: GatePolicy = "warn",
    on_choice: Callable[[str], None] = lambda text: None,
) -> "Segmenter":
    """Load a bundle.

    Args:
        bundle: What to run.
        backend: Name of a runtime, or "auto".
        precision: "f32", "bf16", "int8", "auto" for what is the fastest here, or "default" for
            what is the fastest as a rule, without timing anything.
        threads: Threads of the runtime; None for every core this process may use.
        gate: What happens to images that look unlike those the network was trained on.
        on_choice: Called with a sentence if ways to run it were timed, and one was chosen.

    Raises:
        BackendError: If the runtime is not installed.
    """
    session = open_session(
        bundle, backend=backend, precision=precision, threads=threads, on_choice=on_choice
    )
    warnings = certificate_warnings(bundle, session.backend, session.precision)
    return Segmenter(
        bundle.spec, session, warnings=warnings, gate=bundle.gate, policy=gate,
        confidence=bundle.confidence,
    )  # fmt: skip


class Segmenter:
    """A deployment, loaded once, ready for any number of sequences.

    Args:
        spec: The steps around the network, and its labels.
        session: The network, ready to run.
        warnings: Sentences that go into every result.
        gate: Tells foreign images; None to judge none.
        policy: What happens to them.
        confidence: How sure masks are; None not to predict it.
    """

    def __init__(
        self,
        spec: DeploymentSpec,
        session: Session,
        *,
        warnings: Sequence[str] = (),
        gate: Gate | None = None,
        policy: GatePolicy = "warn",
        confidence: Confidence | None = None,
    ) -> None:
        self.spec = spec
        self.session = session
        self.warnings = tuple(warnings)
        self.policy = policy
        if gate is not None and gate.version != VERSION and policy != "off":
            text = (
                f"the gate of {spec.name} was fitted by another version of bedside, and judges "
                "nothing"
            )
            if policy == "refuse":
                raise BundleError(f"{text}. Fit it anew: bedside gate. Or pass --gate off.")
            self.warnings += (f"{text}: foreign images are not told.",)
            gate = None
        self.pipeline = create_pipeline(
            spec, session, None if policy == "off" else gate, confidence
        )

    def resolve_axes(self, sequence: ImageSequence) -> ImageSequence:
        """Resolve what the file leaves open: whether frames are time or slices, and the scale.

        Raises:
            GeometryError: If frames follow in time, and the bundle takes the slices of a scan.
        """
        return resolve_axes(sequence, self.spec)

    def plan(self, sequence: ImageSequence, *, force: bool = False) -> Any:
        """Plan the preprocessing of a sequence; a `FramePlan` for a 2D network.

        Raises:
            ModalityError: If the image is of another kind than the bundle's, and not `force`.
        """
        self._check_modality(sequence, force=force)
        return self.pipeline.plan(sequence, force=force)

    def check_marker(self, plan: FramePlan, frames: Sequence[np.ndarray]) -> FramePlan:
        """Plan for mirrored frames if the view is mirrored, and the bundle checks that.

        `plan` does so itself; this is for a plan that was made otherwise.

        Args:
            plan: For the frames as they are.
            frames: (C, H, W) decoded frames of the view, at least one.
        """
        if not isinstance(self.pipeline, FramePipeline):
            return plan
        return self.pipeline.check_marker(plan, frames)

    def segment_frame(
        self, frame: np.ndarray, plan: FramePlan, *, grid: LabelGrid | None = None
    ) -> FrameResult:
        """Segment one decoded frame, (C, H, W); see `FramePipeline.run`.

        Raises:
            FrameError: If the frame is not of the kind that the plan was made for, the plan is
                another bundle's, or this bundle takes whole scans.
            FormatError: If too many of its values are no numbers.
        """
        if not isinstance(self.pipeline, FramePipeline):
            raise FrameError("this bundle takes whole scans and no single frames.")
        return self.pipeline.run(frame, plan, grid=grid)

    def segment_sequence(
        self,
        sequence: ImageSequence,
        *,
        on_frame: Callable[[int], None] | None = None,
        force: bool = False,
        max_bytes: int | None = None,
        probabilities: bool = False,
    ) -> Segmentation:
        """Segment every frame.

        Args:
            sequence: The frames, decoded as they are needed.
            on_frame: Called with the number of frames done.
            force: Go on where the image is of another kind than the bundle's.
            max_bytes: Resident memory that the process must not exceed; None for no ceiling.
            probabilities: Whether to work out the probabilities of all classes too.

        Raises:
            ModalityError: If the image is of another kind than the bundle's or refused by its
                gate, and not `force`.
            GeometryError: If frames follow in time, and the bundle takes the slices of a scan, or
                the scan lies nowhere and structures differ in their side only.
            FormatError: If a frame cannot be decoded.
            MemoryLimitError: If it cannot be done in `max_bytes`.
        """
        self._check_modality(sequence, force=force)
        sequence = self.resolve_axes(sequence)
        memory = self.plan_memory(sequence, max_bytes=max_bytes, probabilities=probabilities)
        if self.spec.model.spatial_dims == 3:
            check_sides(sequence, self.spec.labels, force=force)
        found = self.pipeline.segment(
            sequence, on_frame=on_frame, force=force, memory=memory, probabilities=probabilities
        )
        found = drop_foreign_scale(found, sequence, self.spec.labels)
        foreign = self.check_gate(found.gate, force=force) or self._describe_foreign(found)
        if foreign:
            found = replace(
                found,
                confidence=distrust(found.confidence),
                frame_confidence=tuple(map(distrust, found.frame_confidence)),
            )
        return replace(found, warnings=(*self.warnings, *foreign, *found.warnings))

    def check_gate(self, verdict: GateVerdict | None, *, force: bool) -> list[str]:
        """Warn of a foreign image, or refuse it.

        Args:
            verdict: Of the gate; None if nothing was judged.
            force: Warn where images are refused, too.

        Raises:
            ModalityError: If it is refused.
        """
        judge = self.pipeline.judge
        if judge is None or verdict is None or verdict.distance <= judge.gate.threshold:
            return []
        text = explain(judge.gate, verdict, made_for=self.spec.input.view or self.spec.task)
        if self.policy == "refuse" and not force:
            raise ModalityError(f"{text}. Pass --gate warn to segment it all the same.")
        return [f"{text}; do not rely on its labels."]

    def _describe_foreign(self, found: Segmentation) -> list[str]:
        """Warn of a film that is of the bundle's view as a whole, and of another in some frames."""
        frames = found.foreign_frames
        if not frames:
            return []
        judged = min(len(found.labels.array), JUDGED_FRAMES)
        numbers = ", ".join(str(index + 1) for index in frames)
        look = "looks" if len(frames) == 1 else "look"
        return [
            f"{len(frames)} of {judged} frames that were judged ({numbers}, counted from 1) {look} "
            f"unlike {self.spec.input.view or self.spec.task}: the view changes, or the image is "
            "lost. Do not rely on labels there, nor on changes of areas."
        ]

    def plan_memory(
        self, sequence: ImageSequence, *, max_bytes: int | None = None, probabilities: bool = False
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
        taken = self.spec.input
        self.session.predict(np.zeros((1, taken.channels, *taken.size_px), np.float32))
        base_bytes = resident_bytes()
        return self.pipeline.plan_memory(
            sequence, base_bytes=base_bytes, max_bytes=max_bytes, probabilities=probabilities
        )

    def _check_modality(self, sequence: ImageSequence, *, force: bool) -> None:
        wanted = self.spec.input.modality
        if sequence.modality is not None and sequence.modality != wanted and not force:
            raise ModalityError(
                f'modality is {sequence.modality}, bundle "{self.spec.name}" is for {wanted}. '
                "Choose another bundle, or pass --force."
            )
