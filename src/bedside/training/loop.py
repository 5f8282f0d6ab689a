"""The loop: epochs of batches, averaged weights, a schedule.

Everything random is drawn from (seed, epoch, example), and the schedule from the step, so a
resumed run takes the same steps as one that was never interrupted.
"""

import copy
import math
from collections import defaultdict

import numpy as np
import torch
from torch import nn

from bedside.layers.conv import MEMORY_FORMATS, NORMS
from bedside.spec import TrainingSpec
from bedside.training.batches import Batches
from bedside.training.parallel import average_over_ranks, average_training, rank
from bedside.training.renorm import set_renorm, use_renorm
from bedside.training.tasks import Task

MODEL, AVERAGE, TASK = "model.", "average.", "task."


class Trainer:
    """A network in training, with all state that is needed to resume.

    Args:
        model: The network, with fresh weights.
        spec: How to train.
        batches: The training data.
        task: The loss to minimize.
        device: Where to train.
    """

    def __init__(
        self,
        model: nn.Module,
        spec: TrainingSpec,
        *,
        batches: Batches,
        task: Task,
        device: torch.device,
    ) -> None:
        self.spec, self.batches, self.device = spec, batches, device
        if spec.renorm:
            use_renorm(model)
        self.model, self.task = _channels_last(model.to(device)), task
        self.average = {name: value.clone() for name, value in model.state_dict().items()}
        # The model's own tensors: the optimizer updates them in place.
        pairs = [(self.average[name], value) for name, value in model.state_dict().items()]
        floats = [pair for pair in pairs if pair[0].is_floating_point()]
        self._averages, self._presents = map(list, zip(*floats, strict=True))
        self._counts = [pair for pair in pairs if not pair[0].is_floating_point()]
        self._parameters = [*model.parameters(), *task.parameters()]
        self.optimizer = torch.optim.AdamW(
            self._parameters, lr=spec.learning_rate, weight_decay=spec.weight_decay, fused=True
        )
        self.step = 0

    def run_epoch(self, epoch: int) -> dict[str, float]:
        """Train for one epoch.

        Returns:
            The mean "loss", and the mean of each of its terms.
        """
        torch.manual_seed(_seed_of(self.spec.seed, epoch, rank()))
        self.model.train()
        if self.spec.hold_norms:
            _hold_norms(self.model)
        # Summed where they are computed, so that no step waits for a GPU to report.
        zero = torch.zeros((), dtype=torch.float64, device=self.device)
        totals: dict[str, torch.Tensor] = defaultdict(zero.clone)
        for batch in self.batches.epoch(epoch):
            for name, part in self._step(*batch).items():
                totals[name] += part
        average_over_ranks(totals.values())
        return {name: float(total) / len(self.batches) for name, total in totals.items()}

    def _step(
        self, images: torch.Tensor, truths: torch.Tensor, clean: torch.Tensor | None = None
    ) -> dict[str, torch.Tensor]:
        spec = self.spec
        rate = learning_rate(self.step, spec, total=spec.epochs * len(self.batches))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        if spec.renorm:
            set_renorm(self.model, progress=self.step / (spec.epochs * len(self.batches)))
        images, truths = images.to(self.device), truths.to(self.device).long()
        views = {} if clean is None else {"clean": clean.to(self.device)}
        loss, parts = self.task(self.model, images, truths, **views)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        average_training(self.model, self._parameters)
        nn.utils.clip_grad_norm_(self._parameters, spec.grad_clip)
        self.optimizer.step()
        self.step += 1
        self._update_average()
        return {name: part.detach() for name, part in {"loss": loss, **parts}.items()}

    def _update_average(self) -> None:
        """Move the averaged weights towards the present ones; faster in the beginning."""
        decay = min(self.spec.ema_decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(self._averages, self._presents, 1 - decay)
            for average, present in self._counts:
                average.copy_(present)

    def averaged(self) -> nn.Module:
        """Copy the network, with the averaged weights, in evaluation mode."""
        model = copy.deepcopy(self.model)
        model.load_state_dict(self.average, strict=True)
        return model.eval()

    def tensors(self) -> dict[str, torch.Tensor]:
        """All weights by name: present, averaged, and the task's own."""
        return {
            f"{prefix}{name}": value
            for prefix, state in (
                (MODEL, self.model.state_dict()),
                (AVERAGE, self.average),
                (TASK, self.task.state_dict()),
            )
            for name, value in state.items()
        }

    def restore(self, tensors: dict[str, torch.Tensor], *, step: int) -> None:
        """Restore weights from `tensors`, strictly, and continue at `step`."""
        self.model.load_state_dict(_part(tensors, MODEL), strict=True)
        self.task.load_state_dict(_part(tensors, TASK))
        average = _part(tensors, AVERAGE)
        for name, value in self.average.items():
            value.copy_(average[name])
        self.step = step


def _seed_of(*numbers: int) -> int:
    """Seed of torch's own generator, for dropout and the like."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def learning_rate(step: int, spec: TrainingSpec, *, total: int) -> float:
    """Rise from a tenth of the peak over the warm-up, then fall to zero along a cosine.

    Example:
        >>> spec = TrainingSpec(learning_rate=1.0, warmup=0.1)
        >>> [round(learning_rate(step, spec, total=100), 2) for step in (0, 10, 55, 99)]
        [0.1, 1.0, 0.5, 0.0]
    """
    warmup = max(1, round(spec.warmup * total))
    if step < warmup:
        return spec.learning_rate * (0.1 + 0.9 * step / warmup)
    progress = (step - warmup) / max(1, total - warmup)
    return spec.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


def _hold_norms(model: nn.Module) -> None:
    """Let batch norms use the statistics that they have, and not change them."""
    for module in model.modules():
        if isinstance(module, tuple(NORMS.values())):
            module.eval()


def _channels_last(model: nn.Module) -> nn.Module:
    """Set the memory layout of convolution weights to that of images in `to_batch`."""
    for parameter in model.parameters():
        layout = MEMORY_FORMATS.get(parameter.ndim - 2)
        if layout is not None:
            parameter.data = parameter.data.contiguous(memory_format=layout)
    return model


def _part(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
