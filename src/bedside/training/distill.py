"""Training task: expert labels and distillation from teachers."""

from collections.abc import Iterator, Sequence

import torch
from torch import nn

from bedside.models.outputs import Outputs
from bedside.spec import DistillSpec
from bedside.training.distillation import (
    FeatureMatch,
    channel_divergence,
    correlation_loss,
    mean_logits,
    pixel_divergence,
)
from bedside.training.losses import find_outlines, mean_over, resize_logits, sample_labels
from bedside.training.tasks import Parts, Supervised, observe

Term = tuple[str, float, torch.Tensor]


class Distill(nn.Module):
    """Loss from expert labels, and from the outputs of trained teachers.

    The teachers see the same augmented images, or these before artefacts and noise. The recipe
    weights their terms; terms of weight 0 are not computed.

    Args:
        supervised: How the experts' labels are learned from.
        spec: What is learned from the teachers.
        teachers: Networks with the student's labels, on the student's device. They are not
            among the task's weights.
        match: Compares features, of one teacher, instead of logits channel by channel.
    """

    def __init__(
        self,
        supervised: Supervised,
        spec: DistillSpec,
        *,
        teachers: Sequence[nn.Module],
        match: FeatureMatch | None = None,
    ) -> None:
        super().__init__()
        self.supervised, self.spec, self.match = supervised, spec, match
        # In a tuple, where torch does not look for weights to train and to save.
        self.teachers = tuple(teacher.eval().requires_grad_(False) for teacher in teachers)

    def forward(
        self,
        model: nn.Module,
        images: torch.Tensor,
        truths: torch.Tensor,
        clean: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, Parts]:
        """Loss on a batch; see `Task`."""
        outputs = observe(model, images, supervise=True)
        loss, parts = self.supervised.judge(outputs, truths)
        seen = images if clean is None else clean
        with torch.no_grad():
            taught = [
                observe(teacher, seen, supervise=self.match is not None)
                for teacher in self.teachers
            ]
        for name, weight, part in self._compare(outputs, taught, truths):
            parts[name] = part
            loss = loss + weight * part
        return loss, parts

    def _compare(
        self, outputs: Outputs, taught: Sequence[Outputs], truths: torch.Tensor
    ) -> Iterator[Term]:
        """Distillation losses, at the student's resolution."""
        spec = self.spec
        student = outputs.logits.float().contiguous()
        each = [resize_logits(other.logits.float(), student.shape[2:]) for other in taught]
        teacher = mean_logits(each)
        yield from self._compare_pixels(student, teacher, truths)
        if spec.channel_weight:
            pairs = [(student, other) for other in each]
            if self.match is not None:
                pairs = self.match(outputs.features, taught[0].features)
            divergences = [
                channel_divergence(ours, theirs, temperature=spec.channel_temperature)
                for ours, theirs in pairs
            ]
            yield "channel", spec.channel_weight, torch.stack(divergences).mean()
        if spec.correlation_weight:
            correlation = correlation_loss(student, teacher, temperature=spec.temperature)
            yield "correlation", spec.correlation_weight, correlation

    def _compare_pixels(
        self, student: torch.Tensor, teacher: torch.Tensor, truths: torch.Tensor
    ) -> Iterator[Term]:
        """Divergence of soft labels everywhere, and near outlines of truth or teacher."""
        spec = self.spec
        if not spec.soft_weight and not spec.boundary_weight:
            return
        divergence = pixel_divergence(student, teacher, temperature=spec.temperature)
        if spec.soft_weight:
            yield "soft", spec.soft_weight, divergence.mean()
        if spec.boundary_weight:
            true = sample_labels(truths, student.shape[2:])
            drawn = teacher.argmax(dim=1)
            near = find_outlines(true, reach=spec.boundary_px)
            near |= find_outlines(drawn, reach=spec.boundary_px)
            yield "soft_boundary", spec.boundary_weight, mean_over(divergence, near)
