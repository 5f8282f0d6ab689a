"""What a network learns from teachers, as data."""

from dataclasses import dataclass
from typing import Literal

from bedside.errors import SpecError


@dataclass(frozen=True)
class DistillSpec:
    """Distillation: what the network learns from teachers.

    Each part is left out at weight 0.

    Attributes:
        teacher: Run folder of the teacher, relative to where the command runs; of several
            teachers, the mean of their probabilities is used.
        temperature: Logits are divided by it before they are compared as probabilities.
        soft_weight: Weight of the divergence from the teacher's labels in every pixel.
        boundary_weight: Weight of the same near outlines of the truth or the teacher only.
        boundary_px: How near that is, in elements of the student's logits.
        channel_weight: Weight of the divergence of where each channel is active.
        channel_temperature: What channels are divided by before that.
        channel_on: Whether those are the channels of the logits, or of features at the
            strides that student and teacher have in common.
        correlation_weight: Weight of the correlation of probabilities, over labels and
            over pixels.
        clean_view: Whether teachers see each image before shadows, lost echoes and noise are
            planted, so that they teach what lies beneath.
    """

    teacher: str | tuple[str, ...]
    temperature: float = 2.0
    soft_weight: float = 1.0
    boundary_weight: float = 0.0
    boundary_px: int = 2
    channel_weight: float = 0.0
    channel_temperature: float = 4.0
    channel_on: Literal["logits", "features"] = "logits"
    correlation_weight: float = 0.0
    clean_view: bool = False

    def __post_init__(self) -> None:
        """Refuse weights that are all 0."""
        if not self.teachers:
            raise SpecError("teacher is empty; expected one run folder or several.")
        weights = [
            getattr(self, f"{part}_weight")
            for part in ("soft", "boundary", "channel", "correlation")
        ]
        if min(weights) < 0 or max(weights) <= 0:
            raise SpecError(f"the weights are {weights}; expected one above 0, and none below.")
        if min(self.temperature, self.channel_temperature) <= 0 or self.boundary_px < 1:
            raise SpecError("temperatures must be above 0, and boundary_px at least 1.")
        if self.channel_on == "features" and len(self.teachers) > 1:
            raise SpecError(
                f"{len(self.teachers)} teachers with features of their own cannot be averaged; "
                'name one, or set channel_on to "logits".'
            )

    @property
    def teachers(self) -> tuple[str, ...]:
        """The run folders, one or several."""
        return (self.teacher,) if isinstance(self.teacher, str) else self.teacher
