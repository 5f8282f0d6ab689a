"""What `test_parallel` starts in two processes: a step, a run, one that is stopped, the command.

Usage: together_for_tests.py DATA OUTPUT RECIPE
"""

import runpy
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

from bedside.spec import AugmentSpec, TrainingSpec
from bedside.training.batches import Batches
from bedside.training.checkpoint import save_tensors
from bedside.training.example import Example
from bedside.training.loop import Trainer
from bedside.training.parallel import rank, together, world_size
from bedside.training.run import train
from bedside.training.tasks import Supervised
from runs_for_tests import StoppedError, make_recipe, stop_after_first

CPU = torch.device("cpu")


def take_step():
    """Take one step of a network without norms on a batch of four; give its gradients."""
    rng = np.random.default_rng(0)
    examples = [
        Example(
            rng.random((1, 24, 24), dtype=np.float32),
            rng.integers(0, 3, (24, 24)).astype(np.uint8),
        )
        for _ in range(4)
    ]
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1, stride=2), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1)
    ).double()
    spec = TrainingSpec(epochs=1, batch_size=4)
    trainer = Trainer(
        nn.Sequential(Doubled(), model),
        spec,
        batches=Batches(examples, AugmentSpec(), size=4, rank=rank(), ranks=world_size()),
        task=Supervised(spec, num_classes=3),
        device=CPU,
    )
    loss = trainer.run_epoch(0)["loss"]
    gradients = {name: weight.grad for name, weight in trainer.model.named_parameters()}
    return gradients | {"loss": torch.tensor(loss)}


class Doubled(nn.Module):
    """Takes images in double precision, so that sums in another order hardly differ."""

    def forward(self, x):
        with torch.autocast("cpu", enabled=False):
            return x.double()


def main(data, output, recipe_file):
    torch.set_num_threads(1)
    recipe = make_recipe(data, epochs=2)
    with together(CPU):
        assert world_size() == 2
        step = take_step()
        if rank() == 0:
            save_tensors(output / "step.safetensors", step)
        train(recipe, output / "unbroken", threads=1)
        try:
            train(recipe, output / "broken", threads=1, on_progress=stop_after_first)
        except StoppedError:
            train(recipe, output / "broken", threads=1)
        sys.argv[1:] = ["train", str(recipe_file), "-o", str(output / "command"), "--threads", "1"]
        try:
            runpy.run_module("bedside", run_name="__main__")
        except SystemExit as leaving:
            if leaving.code:
                raise


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
