"""One training from recipe to weights, in a run folder that can be resumed.

A run folder holds `run.json` (recipe, split, provenance), `log.jsonl` (a line an epoch),
`curves.svg`, `checkpoint.safetensors` while it runs, and at the end `weights.safetensors` and
`validation/`, the accuracy on the validation patients at their images' own resolution.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bedside.datasets import Case, list_recipe_cases
from bedside.evaluation.cases import evaluate_cases
from bedside.evaluation.report import write_report
from bedside.models import count_parameters, create
from bedside.segment import Segmenter
from bedside.spec import ModelSpec, Recipe
from bedside.system.atomic import output_folder
from bedside.training.batches import Batches
from bedside.training.checkpoint import save_tensors
from bedside.training.dataset import load_cases
from bedside.training.device import choose_device, choose_workers, configure_threads
from bedside.training.example import Example
from bedside.training.folder import (
    CHECKPOINT,
    RUN,
    VALIDATION,
    WEIGHTS,
    Network,
    Sources,
    Split,
    find_split,
    open_run,
    select_cases,
)
from bedside.training.intensity_range import find_values
from bedside.training.loop import Trainer
from bedside.training.parallel import rank, together, wait_for_all, world_size
from bedside.training.resume import resume, save_progress
from bedside.training.session import TorchSession
from bedside.training.tasks import Task
from bedside.training.teacher import Teacher, create_task, open_start, open_teacher
from bedside.training.validate import validate

__all__ = ["RUN", "WEIGHTS", "Progress", "report_comparing", "select_cases", "train"]


@dataclass(frozen=True)
class Progress:
    """Progress of a training.

    Attributes:
        stage: "comparing images", "reading" or "training".
        done: Cases compared or read, or epochs trained.
        total: Of how many.
        record: The log's latest line; empty before the first epoch.
    """

    stage: str
    done: int
    total: int
    record: Mapping[str, Any]


@dataclass(frozen=True)
class Run:
    """A training whose folder is open.

    Attributes:
        output: The run folder.
        recipe: What is trained on what, and how.
        cases: Cases of each part.
        cache: Folder of preprocessed cases, or None.
        workers: Threads that augment images ahead.
        on_progress: Called after every case read and every epoch.
    """

    output: Path
    recipe: Recipe
    cases: Mapping[str, Sequence[Case]]
    cache: Path | None
    workers: int
    on_progress: Callable[[Progress], None]


def train(
    recipe: Recipe,
    output: Path,
    *,
    data: Path | None = None,
    cache: Path | None = None,
    threads: int | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    create_model: Callable[[ModelSpec], nn.Module] = create,
    network: str | None = None,
) -> Path:
    """Train, or resume a stopped training of the same recipe.

    Started by `torchrun`, each process trains on its share of every batch; the first writes.

    Args:
        recipe: What to train on what, and how.
        output: Run folder.
        data: Folder of the data set, if not the recipe's.
        cache: Folder of preprocessed cases, to be read and added to; None for none.
        threads: Threads of torch; None leaves its choice.
        on_progress: Called after every case read and every epoch.
        create_model: Builds the network with fresh weights, for one that is not in the
            table of models: any module from (B, C, *S) to logits at any stride.
        network: Its name, which the run records; the recipe's architecture if None.

    Returns:
        The path of the final weights.

    Raises:
        SpecError: If the folder holds a run of another recipe, network or teacher.
        DataError: If the data set is faulty or its split leaks.
        OutputError: If the folder cannot be written.
    """
    device = choose_device()
    configure_threads(threads, device)
    with together(device), output_folder(output if rank() == 0 else None):
        cases = list_recipe_cases(recipe, data)
        compared = report_comparing(on_progress, len(cases))
        split, joined = find_split(output, recipe, cases, on_case=compared)
        teachers = _open_teachers(recipe, split, device)
        torch.manual_seed(recipe.training.seed)
        model = create_model(recipe.deployment.model)
        begun = _open_start(model, recipe, split, device)
        known = Network(network or recipe.deployment.model.architecture, count_parameters(model))
        if rank() == 0:
            sources = Sources([teacher.record for teacher in teachers], begun)
            open_run(output, recipe, cases, known, split=split, joined=joined, sources=sources)
        wait_for_all()
        if not (output / WEIGHTS).exists():
            parts = {part: select_cases(cases, split[part]) for part in ("train", "val")}
            workers = choose_workers(threads, device)
            run = Run(output, recipe, parts, cache, workers, on_progress)
            _train(run, model, task=create_task(recipe, model, teachers, device), device=device)
        wait_for_all()
    return output / WEIGHTS


def report_comparing(on_progress: Callable[[Progress], None], total: int) -> Callable[[int], None]:
    """Return what reports how many images have been compared.

    Args:
        on_progress: What it reports to.
        total: How many there are.
    """
    return lambda done: on_progress(Progress("comparing images", done, total, {}))


def _open_teachers(recipe: Recipe, split: Split, device: torch.device) -> list[Teacher]:
    names = recipe.distill.teachers if recipe.distill else ()
    return [open_teacher(Path(name), recipe, split, device) for name in names]


def _open_start(
    model: nn.Module, recipe: Recipe, split: Split, device: torch.device
) -> Mapping[str, Any] | None:
    """Load the weights that the recipe starts from, if it names any; returns their record."""
    start = open_start(recipe, split, device)
    if start is None:
        return None
    model.load_state_dict(start.model.state_dict(), strict=True)
    return start.record


def _train(run: Run, model: nn.Module, *, task: Task, device: torch.device) -> None:
    """Train from the latest checkpoint, if there is one, to the last epoch."""
    recipe = run.recipe
    examples = {part: _load(run, part) for part in ("train", "val")}
    batches = Batches(
        examples["train"],
        recipe.augment,
        size=recipe.training.batch_size,
        seed=recipe.training.seed,
        patch=recipe.patch_px,
        foreground=recipe.training.foreground,
        repeats=recipe.training.patches,
        workers=run.workers,
        values=find_values(
            recipe.deployment.preprocess, spatial_dims=recipe.deployment.model.spatial_dims
        ),
        rank=rank(),
        ranks=world_size(),
        with_clean=recipe.distill is not None and recipe.distill.clean_view,
        empty_share=recipe.training.empty_share,
    )
    trainer = Trainer(model, recipe.training, batches=batches, task=task, device=device)
    log = resume(run.output, trainer)
    for epoch in range(len(log), recipe.training.epochs):
        record = _train_epoch(epoch, trainer, run, examples["val"])
        log.append(record)
        if rank() == 0:
            save_progress(run.output, trainer, log, recipe.deployment.labels)
        run.on_progress(Progress("training", epoch + 1, recipe.training.epochs, record))
    if rank() == 0:
        _finish(run, trainer)


def _load(run: Run, part: str) -> list[Example]:
    total = sum(map(len, run.cases.values()))
    before = len(run.cases["train"]) if part == "val" else 0
    return load_cases(
        run.cases[part],
        run.recipe.deployment,
        cache=run.cache,
        on_case=lambda done: run.on_progress(Progress("reading", before + done, total, {})),
    )


def _train_epoch(
    epoch: int, trainer: Trainer, run: Run, validation: Sequence[Example]
) -> dict[str, Any]:
    """Train for one epoch, and validate if it is due.

    Returns:
        A line of the log.
    """
    recipe, begin = run.recipe, time.monotonic()
    means = trainer.run_epoch(epoch)
    record: dict[str, Any] = {
        "epoch": epoch + 1,
        "step": trainer.step,
        "loss": round(means.pop("loss"), 5),
        "parts": {name: round(value, 5) for name, value in means.items()},
    }
    last = epoch + 1 == recipe.training.epochs
    if rank() == 0 and (last or (epoch + 1) % recipe.training.validate_every == 0):
        dice = validate(
            trainer.averaged(),
            validation,
            spec=recipe.deployment,
            device=trainer.device,
        )
        names = [label.name for label in recipe.deployment.labels]
        record["dice"] = {n: round(d, 4) for n, d in zip(names, dice, strict=True)}
    return record | {"seconds": round(time.monotonic() - begin, 2)}


def _finish(run: Run, trainer: Trainer) -> None:
    """Score the validation patients on their images' own grid, and keep the weights."""
    recipe = run.recipe
    segmenter = Segmenter(recipe.deployment, TorchSession(trainer.averaged(), trainer.device))
    evaluation = evaluate_cases(segmenter, run.cases["val"])
    about = {"data": {"name": recipe.data.name, "split": "val"}, "backend": "torch"}
    title = f"{recipe.deployment.name}: validation patients, network in torch"
    write_report(run.output / VALIDATION, evaluation, about=about, title=title)
    save_tensors(run.output / WEIGHTS, trainer.average)
    (run.output / CHECKPOINT).unlink(missing_ok=True)
