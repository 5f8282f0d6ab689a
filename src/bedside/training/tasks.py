"""Training tasks: from images and truths to the loss.

A task knows the student as a module that turns images into logits; only deep supervision,
outlines and features are asked of a network that can give them.
"""

from collections.abc import Sequence
from typing import Any, Protocol, cast

import torch
from torch import nn

from bedside.errors import SpecError
from bedside.models.outputs import Outputs
from bedside.spec import TrainingSpec
from bedside.training.losses import (
    find_outlines,
    mean_over,
    outline_loss,
    overlap_losses,
    resize_logits,
    sample_labels,
)
from bedside.training.precision import mixed_precision

Parts = dict[str, torch.Tensor]


class Task(Protocol):
    """A training objective. Its own weights, if it has any, are trained too."""

    def parameters(self) -> Any:
        """Return the weights of the task itself."""

    def state_dict(self) -> Any:
        """Return the state that is needed to resume."""

    def load_state_dict(self, state: Any) -> Any:
        """Restore what `state_dict` returned."""

    def __call__(
        self,
        model: nn.Module,
        images: torch.Tensor,
        truths: torch.Tensor,
        clean: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, Parts]:
        """Loss of a network on a batch.

        Args:
            model: The student, in training mode.
            images: (B, C, *S) float32.
            truths: (B, *S) int64 labels.
            clean: As `images`, before artefacts and noise, for teachers that see these.

        Returns:
            The loss, and what it is made of by name, for the log.
        """


def observe(model: nn.Module, images: torch.Tensor, *, supervise: bool) -> Outputs:
    """Run a network, in half precision where the processor has it.

    Args:
        model: Any module from images to logits.
        images: (B, C, *S) float32.
        supervise: Whether to ask for all that it gives in training, if it gives more than
            its logits.
    """
    with mixed_precision(images.device):
        if supervise and hasattr(model, "supervise"):
            outputs: Outputs = cast(Any, model).supervise(images)
            return outputs
        return Outputs(logits=model(images), auxiliary=(), boundary=None, features=())


class Supervised(nn.Module):
    """Loss from expert labels: Dice, cross-entropy, and the recipe's additions.

    Deep supervision and the boundary branch add their losses, if the network has them.

    Args:
        spec: Weights of the parts.
        num_classes: Number of labels, background included.

    Raises:
        SpecError: If there are class weights or biases, but not one a label.

    Source:
        Biases: Menon et al., Long-tail learning via logit adjustment, ICLR 2021.
    """

    class_weights: torch.Tensor
    label_bias: torch.Tensor

    def __init__(self, spec: TrainingSpec, *, num_classes: int) -> None:
        super().__init__()
        self.spec = spec
        for name, neutral in (("class_weights", 1.0), ("label_bias", 0.0)):
            values = getattr(spec, name) or (neutral,) * num_classes
            if len(values) != num_classes:
                raise SpecError(
                    f"training.{name} has {len(values)} entries; expected {num_classes}, "
                    "one a label and the background's first."
                )
            self.register_buffer(name, torch.tensor(values), persistent=False)

    def forward(
        self,
        model: nn.Module,
        images: torch.Tensor,
        truths: torch.Tensor,
        clean: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, Parts]:
        """Loss on a batch; see `Task`."""
        return self.judge(observe(model, images, supervise=True), truths)

    def judge(self, outputs: Outputs, truths: torch.Tensor) -> tuple[torch.Tensor, Parts]:
        """Loss of outputs against the truth."""
        logits = resize_logits(outputs.logits.float().contiguous(), truths.shape[1:])
        loss, parts = self._compare(logits, truths)
        if outputs.auxiliary and self.spec.deep_weight:
            deep = self._compare_coarse(outputs.auxiliary, truths)
            loss = loss + self.spec.deep_weight * deep
            parts["deep"] = deep
        if outputs.boundary is not None and self.spec.outline_weight:
            parts["outline"] = outline_loss(outputs.boundary.float(), truths)
            loss = loss + self.spec.outline_weight * parts["outline"]
        return loss, parts

    def _compare(self, logits: torch.Tensor, truths: torch.Tensor) -> tuple[torch.Tensor, Parts]:
        """Loss of logits against labels of the same size."""
        spec = self.spec
        if spec.label_bias:
            logits = logits - self.label_bias.reshape(-1, *(1,) * (logits.ndim - 2))
        dice, entropy = overlap_losses(logits, truths, smoothing=spec.label_smoothing)
        parts = {"dice": dice, "ce": self._mean(entropy, truths)}
        loss = spec.dice_weight * dice + spec.ce_weight * parts["ce"]
        if spec.boundary_weight:
            near = find_outlines(truths, reach=spec.boundary_px)
            parts["boundary"] = mean_over(entropy, near)
            loss = loss + spec.boundary_weight * parts["boundary"]
        return loss, parts

    def _mean(self, entropy: torch.Tensor, truths: torch.Tensor) -> torch.Tensor:
        """Average over pixels, each weighted by its class."""
        if not self.spec.class_weights:
            return entropy.mean()
        weights = self.class_weights[truths]
        return (entropy * weights).sum() / weights.sum()

    def _compare_coarse(
        self, auxiliary: Sequence[torch.Tensor], truths: torch.Tensor
    ) -> torch.Tensor:
        """Average the losses of coarser logits, each weighted half as much as the one before."""
        total, weights = torch.zeros((), device=truths.device), 0.0
        for number, logits in enumerate(auxiliary):
            coarse = sample_labels(truths, logits.shape[2:])
            weight = 0.5**number
            total = total + weight * self._compare(logits.float().contiguous(), coarse)[0]
            weights += weight
        return total / weights
