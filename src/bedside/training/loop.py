"""The loop: epochs of augmented batches, averaged weights, a schedule, validation.

Everything random is drawn from (seed, epoch, example), and the schedule from the step, so a
run that was stopped and continued takes the very steps it would have taken.
"""

import copy
import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import nn

from bedside.layers.conv import MEMORY_FORMATS
from bedside.spec import AugmentSpec, TrainingSpec
from bedside.training.augment import augment
from bedside.training.example import Example
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
        self.model = _channels_last(model.to(device))
        self.average = {name: value.clone() for name, value in model.state_dict().items()}
        # The model's own tensors, which stay where they are while they learn.
        pairs = [(self.average[name], value) for name, value in model.state_dict().items()]
        floats = [pair for pair in pairs if pair[0].is_floating_point()]
        self._averages, self._presents = map(list, zip(*floats, strict=True))
        self._counts = [pair for pair in pairs if not pair[0].is_floating_point()]
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
        torch.manual_seed(_seed_of(self.spec.seed, epoch))
        self.model.train()
        # Summed where it is computed, so that no step waits for a GPU to report.
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        for images, truths in self._batches(epoch):
            total += self._step(images, truths)
        return float(total) / self.steps_per_epoch

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

    def _step(self, images: torch.Tensor, truths: torch.Tensor) -> torch.Tensor:
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
        return loss.detach()

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


def _seed_of(*numbers: int) -> int:
    """Seed of what a network draws by itself, such as dropout, from torch's own generator."""
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


def to_batch(
    examples: Sequence[Example], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Stack examples: images (B, C, *S) float32 channels-last, truths (B, *S) int64."""
    images = torch.from_numpy(np.stack([example.image for example in examples]))
    truths = torch.from_numpy(np.stack([example.truth for example in examples]))
    images = images.contiguous(memory_format=MEMORY_FORMATS[truths.ndim - 1])
    return images.to(device), truths.to(device).long()


def _channels_last(model: nn.Module) -> nn.Module:
    """Lay the weights of convolutions out as `to_batch` lays out images."""
    for parameter in model.parameters():
        layout = MEMORY_FORMATS.get(parameter.ndim - 2)
        if layout is not None:
            parameter.data = parameter.data.contiguous(memory_format=layout)
    return model


def has_bf16(device: torch.device) -> bool:
    """Tell whether bfloat16 products are done in hardware there."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())


def _part(tensors: dict[str, torch.Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {
        name.removeprefix(prefix): value
        for name, value in tensors.items()
        if name.startswith(prefix)
    }
