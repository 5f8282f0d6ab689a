"""Masked images: what a network of `decision.py` learns from images without labels.

Half of the squares of each training image are blanked, and the network of a cell paints what was
there, at the stride of its logits. All training images of the fold take part, labelled or not;
those that the fold holds out do not. All weights but those of the head go into the cell's training.
"""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from bedside.datasets.case import Case
from bedside.models import create
from bedside.spec import ModelSpec, Recipe, read_recipe
from bedside.training.batches import Batches
from bedside.training.checkpoint import load_tensors, save_tensors
from bedside.training.dataset import load_cases
from bedside.training.folder import split_anew
from bedside.training.loop import Trainer
from bedside.training.run import select_cases
from bedside.training.tasks import Parts
from decision_rows import RECIPE

STEPS = 900
"""Steps of a pretraining: those of a training with all labels."""
SQUARE_PX = 16
BLANKED = 0.5
"""Share of the squares that are blanked; He et al., arXiv:2111.06377, take 0.75 of photographs."""
HEAD = "head."


class PaintBlanked:
    """The task: the squared error of what is painted where squares of an image are blank.

    The first channel of the logits is the painting.
    """

    def parameters(self) -> Any:
        """None."""
        return []

    def state_dict(self) -> Any:
        """Nothing."""
        return {}

    def load_state_dict(self, state: Any) -> Any:
        """Nothing."""

    def __call__(
        self,
        model: nn.Module,
        images: torch.Tensor,
        truths: torch.Tensor,
        clean: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor, Parts]:
        """Mean squared error over the blank squares; see `bedside.training.tasks.Task`."""
        blank = draw_blanks(images)
        mean = images.mean(dim=(2, 3), keepdim=True)
        logits: torch.Tensor = model(torch.where(blank, mean, images))
        painted = logits[:, :1]
        wanted = functional.adaptive_avg_pool2d(images, painted.shape[2:])
        counted = functional.interpolate(blank.float(), painted.shape[2:])
        loss = ((painted - wanted).square() * counted).sum() / counted.sum()
        return loss, {"painted": loss}


def draw_blanks(images: torch.Tensor) -> torch.Tensor:
    """Draw which pixels are blank: whole squares, the same share of each image.

    Args:
        images: (B, C, H, W), H and W multiples of `SQUARE_PX`.

    Returns:
        (B, 1, H, W) bool.
    """
    grid = [size // SQUARE_PX for size in images.shape[2:]]
    ranks = torch.rand(len(images), grid[0] * grid[1], device=images.device).argsort(dim=1)
    blank = (ranks < BLANKED * grid[0] * grid[1]).view(-1, 1, *grid)
    return blank.repeat_interleave(SQUARE_PX, 2).repeat_interleave(SQUARE_PX, 3)


def pretrain(
    recipe: Recipe,
    path: Path,
    cases: list[Case],
    *,
    cache: Path | None,
    on_epoch: Callable[[int, float], None] = lambda epoch, loss: None,
) -> Callable[[ModelSpec], nn.Module]:
    """Train on blanked images, or read what was trained, and return what builds a network so.

    Args:
        recipe: Of a cell; its fold, seed and network are taken, its share of the labels is not.
        path: Where the weights are kept.
        cases: All images; those of the fold's training patients are taken.
        cache: Folder of preprocessed images.
        on_epoch: Called with the number of epochs done and the mean loss of the last.
    """
    if not path.exists():
        everyone = dataclasses.replace(recipe.data, train_fraction=1.0)
        split, _ = split_anew(dataclasses.replace(recipe, data=everyone), cases)
        examples = load_cases(select_cases(cases, split["train"]), recipe.deployment, cache=cache)
        # As of the recipe without artefacts, which would be painted too.
        batches = Batches(
            examples, read_recipe(RECIPE).augment, size=recipe.training.batch_size,
            seed=recipe.training.seed,
        )  # fmt: skip
        training = dataclasses.replace(recipe.training, epochs=round(STEPS / len(batches)))
        torch.manual_seed(recipe.training.seed)
        trainer = Trainer(
            create(recipe.deployment.model), training, batches=batches, task=PaintBlanked(),
            device=torch.device("cpu"),
        )  # fmt: skip
        for epoch in range(training.epochs):
            on_epoch(epoch + 1, trainer.run_epoch(epoch)["loss"])
        path.parent.mkdir(parents=True, exist_ok=True)
        save_tensors(path, trainer.average)
    learned = load_tensors(path)[0]

    def create_pretrained(spec: ModelSpec) -> nn.Module:
        model = create(spec)
        kept = {name: value for name, value in learned.items() if not name.startswith(HEAD)}
        model.load_state_dict(model.state_dict() | kept, strict=True)
        return model

    return create_pretrained
