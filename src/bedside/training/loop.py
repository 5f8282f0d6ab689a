"""The loop: epochs of augmented batches, averaged weights, a schedule, validation.

Everything random is drawn from (seed, epoch, example), and the schedule from the step, so a
run that was stopped and continued takes the very steps it would have taken.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import nn

from bedside.spec import AugmentSpec, TrainingSpec
from bedside.training.augment import Example, augment
from bedside.training.losses import segmentation_loss

MODEL, AVERAGE = "model.", "average."


class Trainer:
    """A network under training, with all that has to be kept to go on later.

    Args:
        model: The network, with fresh weights.
        spec: How to train.
        augment_spec: How to vary images.
        examples: Training examples.
        device: Where to train.
    """

    def __init__(
        self,
        model: nn.Module,
        spec: TrainingSpec,
        *,
        augment_spec: AugmentSpec,
        examples: Sequence[Example],
        device: torch.device,
    ) -> None:
        self.spec, self.augment_spec = spec, augment_spec
        self.examples, self.device = examples, device
        self.model = model.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = {name: value.clone() for name, value in model.state_dict().items()}
        self.optimizer = torch.optim.AdamW(
            model.parameters(), lr=spec.learning_rate, weight_decay=spec.weight_decay
        )
        self.low_precision = has_bf16(device)
        self.step = 0

    @property
    def steps_per_epoch(self) -> int:
        """Number of batches; what is left over waits for the next epoch's order."""
        return max(1, len(self.examples) // self.spec.batch_size)

    def run_epoch(self, epoch: int) -> float:
        """Train for one epoch and return its mean loss."""
        self.model.train()
        total = 0.0
        for images, truths in self._batches(epoch):
            total += self._step(images, truths)
        return total / self.steps_per_epoch

    def _batches(self, epoch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        seed, size = self.spec.seed, self.spec.batch_size
        order = np.random.default_rng((seed, epoch)).permutation(len(self.examples))
        for begin in range(0, self.steps_per_epoch * size, size):
            varied = [
                augment(
                    self.examples[index],
                    self.augment_spec,
                    np.random.default_rng((seed, epoch, index)),
                )
                for index in order[begin : begin + size].tolist()
            ]
            yield to_batch(varied, self.device)

    def _step(self, images: torch.Tensor, truths: torch.Tensor) -> float:
        spec = self.spec
        rate = learning_rate(self.step, spec, total=spec.epochs * self.steps_per_epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.low_precision):
            logits = self.model(images)
        loss = segmentation_loss(
            logits, truths, dice_weight=spec.dice_weight, ce_weight=spec.ce_weight
        )
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), spec.grad_clip)
        self.optimizer.step()
        self.step += 1
        self._update_average()
        return float(loss.detach())

    def _update_average(self) -> None:
        """Move the averaged weights towards the present ones; faster in the beginning."""
        decay = min(self.spec.ema_decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, value in self.model.state_dict().items():
                if value.dtype.is_floating_point:
                    self.average[name].lerp_(value, 1 - decay)
                else:
                    self.average[name].copy_(value)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Name all weights, present and averaged."""
        model = {f"{MODEL}{name}": value for name, value in self.model.state_dict().items()}
        return model | {f"{AVERAGE}{name}": value for name, value in self.average.items()}

    def restore(self, tensors: dict[str, torch.Tensor], *, step: int) -> None:
        """Take weights back from `tensors`, strictly, and go on at `step`."""
        self.model.load_state_dict(_part(tensors, MODEL), strict=True)
        average = _part(tensors, AVERAGE)
        for name, value in self.average.items():
            value.copy_(average[name])
        self.step = step


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


def to_batch(
    examples: Sequence[Example], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Stack examples: images (B, 1, H, W) float32 channels-last, truths (B, H, W) int64."""
    images = torch.from_numpy(np.stack([example.image for example in examples])[:, None])
    truths = torch.from_numpy(np.stack([example.truth for example in examples]))
    images = images.float().contiguous(memory_format=torch.channels_last)
    return images.to(device), truths.long().to(device)


def has_bf16(device: torch.device) -> bool:
    """Tell whether bfloat16 products are done in hardware there."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())


@torch.no_grad()
def validate(
    model: nn.Module, examples: Sequence[Example], *, num_classes: int, device: torch.device
) -> list[float]:
    """Mean Dice of each structure over examples, on the network's grid.

    A quick check while training; the accuracy that a card states is measured on the
    input's own grid, with `bedside.evaluation`.

    Returns:
        One value a structure, background left out; an example without it counts if the
        model drew it.
    """
    model.eval()
    scores: list[list[float]] = [[] for _ in range(1, num_classes)]
    for begin in range(0, len(examples), 16):
        images, truths = to_batch(examples[begin : begin + 16], device)
        logits = model(images).float()
        logits = nn.functional.interpolate(logits, truths.shape[1:], mode="bilinear")
        predictions = logits.argmax(dim=1)
        for prediction, truth in zip(predictions, truths, strict=True):
            for value in range(1, num_classes):
                drawn, true = prediction == value, truth == value
                total = int(drawn.sum() + true.sum())
                if total:
                    scores[value - 1].append(2 * int((drawn & true).sum()) / total)
    return [float(np.mean(values)) if values else math.nan for values in scores]


def _part(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
