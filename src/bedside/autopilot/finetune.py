"""Finetuning after a compression step, with the network before as the teacher.

The schedule is short and of the usual form, and weights are averaged. It can be stopped after any
epoch and resumes with the same batches.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import nn

from bedside.compression.norms import recalibrate_norms
from bedside.models import TrainedNetwork
from bedside.spec import DistillSpec, Recipe
from bedside.training.batches import Batches
from bedside.training.checkpoint import (
    load_tensors,
    optimizer_tensors,
    restore_optimizer,
    save_tensors,
)
from bedside.training.distill import Distill
from bedside.training.example import Example
from bedside.training.intensity_range import find_values
from bedside.training.loop import Trainer
from bedside.training.tasks import Supervised, Task

# Batches that norms are measured on before a finetuning.
_NORM_BATCHES = 16

Prepare = Callable[[nn.Module], object]
"""What is done to a model in place before it is trained; the names of its weights stay."""


@dataclass(frozen=True)
class FinetuneSetup:
    """Data, teachers and schedule of a finetuning.

    Attributes:
        recipe: How its source was trained: variations, loss, size of batches.
        examples: Training examples.
        teachers: Teacher networks, in evaluation mode.
        epochs: Length of the schedule.
        rate: Peak learning rate, over that of the recipe.
        seed: Seed of order and variation.
        workers: Threads that augment images ahead.
        device: Where it is trained.
    """

    recipe: Recipe
    examples: Sequence[Example] = field(repr=False)
    teachers: tuple[nn.Module, ...] = field(repr=False)
    epochs: int
    rate: float = 0.5
    seed: int = 0
    workers: int = 0
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def batches(self) -> Batches:
        """The batches, as in training."""
        recipe = self.recipe
        return Batches(
            self.examples,
            recipe.augment,
            size=min(recipe.training.batch_size, len(self.examples)),
            seed=self.seed,
            patch=recipe.patch_px,
            foreground=recipe.training.foreground,
            repeats=recipe.training.patches,
            workers=self.workers,
            values=find_values(
                recipe.deployment.preprocess, spatial_dims=recipe.deployment.model.spatial_dims
            ),
        )

    def some_batches(self, images: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Return the first batches of an epoch, for as many images."""
        done = 0
        for batch, truths in self.batches.epoch(0):
            yield batch.to(self.device), truths.to(self.device)
            done += len(batch)
            if done >= images:
                return

    def task(self) -> Task:
        """Training task: expert labels, and distillation from the teachers."""
        recipe = self.recipe
        supervised = Supervised(recipe.training, num_classes=recipe.deployment.model.num_classes)
        if not self.teachers:
            return supervised.to(self.device)
        spec = recipe.distill or DistillSpec("the network before")
        if spec.channel_on == "features":
            # Widths differ from step to step; logits do not.
            spec = replace(spec, channel_weight=0.0, channel_on="logits", soft_weight=1.0)
        return Distill(supervised, spec, teachers=self.teachers).to(self.device)


def finetune(
    network: TrainedNetwork,
    setup: FinetuneSetup,
    *,
    checkpoint: Path,
    prepare: Prepare | None = None,
    on_epoch: Callable[[int, dict[str, float]], None] = lambda done, means: None,
) -> TrainedNetwork:
    """Finetune a network, or resume a stopped finetuning.

    Args:
        network: After a step.
        setup: What to learn, and how long.
        checkpoint: File that is kept while it lasts; the caller removes it, once what came
            of it is safe.
        prepare: Called with the model before it is trained, to compute in 8 bits or to keep
            weights at zero.
        on_epoch: Called after every epoch with how many are done, and the mean losses.

    Returns:
        The same spec with averaged weights.
    """
    if _count_norm_batches(setup):
        network = recalibrate_norms(network, _few(setup))
    if setup.epochs == 0:
        return network
    model = network.create()
    if prepare is not None:
        prepare(model)
    spec = replace(
        setup.recipe.training,
        epochs=setup.epochs,
        learning_rate=setup.rate * setup.recipe.training.learning_rate,
        batch_size=setup.batches.size,
        seed=setup.seed,
    )
    trainer = Trainer(model, spec, batches=setup.batches, task=setup.task(), device=setup.device)
    run_epochs(trainer, checkpoint=checkpoint, on_epoch=on_epoch)
    return TrainedNetwork.of(trainer.averaged(), network.spec)


def run_epochs(
    trainer: Trainer,
    *,
    checkpoint: Path,
    on_epoch: Callable[[int, dict[str, float]], None] = lambda done, means: None,
) -> None:
    """Train to the end of the schedule, from a checkpoint if there is one.

    Args:
        trainer: At its beginning.
        checkpoint: File that is read if it is there, and written after every epoch.
        on_epoch: Called after every epoch with how many are done, and the mean losses.
    """
    for epoch in range(_resume(checkpoint, trainer), trainer.spec.epochs):
        resources = trainer.run_epoch(epoch)
        state = trainer.tensors() | optimizer_tensors(trainer.optimizer)
        note = json.dumps({"epochs": epoch + 1, "step": trainer.step})
        save_tensors(checkpoint, state, note=note)
        on_epoch(epoch + 1, resources)


def _few(setup: FinetuneSetup) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    return setup.some_batches(_NORM_BATCHES * setup.batches.size)


def _count_norm_batches(setup: FinetuneSetup) -> int:
    """Whether norms can be measured: one image alone gives no variance of its means."""
    return 0 if setup.batches.size < 2 else _NORM_BATCHES


def _resume(checkpoint: Path, trainer: Trainer) -> int:
    """Restore a stopped training; returns the number of its epochs."""
    if not checkpoint.exists():
        return 0
    tensors, note = load_tensors(checkpoint)
    state = json.loads(note)
    trainer.restore(tensors, step=state["step"])
    restore_optimizer(trainer.optimizer, tensors)
    done: int = state["epochs"]
    return done
