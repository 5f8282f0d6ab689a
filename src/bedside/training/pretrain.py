"""Pretraining on images without labels: a run folder that a training starts from."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from bedside.datasets import Case, list_recipe_cases
from bedside.datasets.duplicates import SharedImage, find_shared_images
from bedside.errors import InputError, SpecError
from bedside.io.discovery import find_sources
from bedside.models import count_parameters, create
from bedside.spec import Recipe
from bedside.system.atomic import output_folder
from bedside.training.batches import Batches
from bedside.training.cache import load_cached
from bedside.training.checkpoint import save_tensors
from bedside.training.dataset import load_cases, load_unlabelled
from bedside.training.device import choose_device, choose_workers, configure_threads
from bedside.training.example import Example
from bedside.training.folder import (
    CHECKPOINT,
    WEIGHTS,
    Network,
    Sources,
    find_split,
    hash_file,
    open_run,
    select_cases,
)
from bedside.training.intensity_range import find_values
from bedside.training.loop import Trainer
from bedside.training.painting import PaintBlanks
from bedside.training.parallel import is_started_together
from bedside.training.resume import resume, save_progress
from bedside.training.run import Progress, report_comparing

EPOCHS = 12
_HEAD = "head."
_FURTHER = "further"
OnProgress = Callable[[Progress], None]


@dataclass(frozen=True)
class Further:
    """Images of folders, to learn from without labels.

    Attributes:
        cases: The images; their truth is not read.
        left_out: Why others are left out, in sentences.
        shared: Cases of the data set that share an image; None where nothing was compared.
    """

    cases: tuple[Case, ...] = ()
    left_out: tuple[str, ...] = ()
    shared: tuple[SharedImage, ...] | None = None


def pretrain(
    recipe: Recipe,
    output: Path,
    *,
    images: Sequence[Path] = (),
    epochs: int = EPOCHS,
    data: Path | None = None,
    cache: Path | None = None,
    threads: int | None = None,
    on_progress: OnProgress = lambda progress: None,
) -> Path:
    """Train a recipe's network to paint what is blank, or resume that; labels are not used.

    It learns from the images of all training patients of the recipe's split, whatever its
    `train_fraction`, and from those of folders. A training whose `start` is the run begins with
    what was learned: all weights but those of the head, which are fresh.

    Args:
        recipe: The network, its preprocessing and the data set.
        output: Run folder.
        images: Files or folders of further images. Copies of images of the data set are left out,
            so that no validation or test patient is learned from.
        epochs: How often all images are gone through.
        data: Folder of the data set, if not the recipe's.
        cache: Folder of preprocessed cases; None for none.
        threads: Threads of torch; None leaves its choice.
        on_progress: Called after every image compared or read, and after every epoch.

    Returns:
        The path of the weights.

    Raises:
        SpecError: If the folder holds another run.
        DataError: If the data set is faulty or its split leaks.
        FormatError: If a folder holds no image.
        InputError: If an image cannot be read, or does not suit the recipe.
        OutputError: If the folder cannot be written.
    """
    if is_started_together():
        raise SpecError("a pretraining runs in one process; start it without torchrun.")
    device, task = choose_device(), PaintBlanks()
    configure_threads(threads, device)
    recipe = _without_labels(recipe, epochs)
    with output_folder(output):
        cases = list_recipe_cases(recipe, data)
        further = find_further(images, cases, on_progress=on_progress)
        compared = report_comparing(on_progress, len(cases))
        split, joined = find_split(output, recipe, cases, shared=further.shared, on_case=compared)
        torch.manual_seed(recipe.training.seed)
        model = create(recipe.deployment.model)
        network = Network(recipe.deployment.model.architecture, count_parameters(model))
        training = select_cases(cases, split["train"])
        sources = Sources(unlabelled=_describe(training, further))
        open_run(output, recipe, cases, network, split=split, joined=joined, sources=sources)
        if not (output / WEIGHTS).exists():
            examples = _read(training, further.cases, recipe, cache=cache, on_progress=on_progress)
            batches = _draw(examples, recipe, workers=choose_workers(threads, device))
            trainer = Trainer(model, recipe.training, batches=batches, task=task, device=device)
            _train(trainer, output, recipe, on_progress=on_progress)
    return output / WEIGHTS


def find_further(
    paths: Sequence[Path], cases: Sequence[Case], *, on_progress: OnProgress = lambda progress: None
) -> Further:
    """List images that are to be learned from beside those of a data set.

    Args:
        paths: Files or folders.
        cases: The data set; copies of its images are left out.
        on_progress: Called after every image compared.

    Raises:
        FormatError: If a path is not there, or is a folder without an image.
    """
    found = [image for path in paths for image in find_sources(path).paths]
    own = {image.resolve() for case in cases for image in case.images}
    new = [path for path in dict.fromkeys(found) if path.resolve() not in own]
    further = [Case(str(path), f"{_FURTHER} {path}", (path,), path) for path in new]
    if not further:
        return Further()
    every = [*cases, *further]
    shared = find_shared_images(every, on_case=report_comparing(on_progress, len(every)))
    names = {case.case_id for case in further}
    # The data set comes first, so a pair whose second case is of it is of it whole.
    within = tuple(pair for pair in shared if pair.second.case_id not in names)
    copies = {
        pair.second.case_id: f"{pair.second.case_id} is left out: {pair.describe()}."
        for pair in shared
        if pair.second.case_id in names and pair.first.case_id not in names
    }
    kept = tuple(case for case in further if case.case_id not in copies)
    return Further(kept, tuple(copies.values()), within)


def _without_labels(recipe: Recipe, epochs: int) -> Recipe:
    """Return the recipe of a pretraining: all training patients, and nothing taken away.

    Shadows, lost echoes and lacking channels would be painted too.
    """
    return replace(
        recipe,
        data=replace(recipe.data, train_fraction=1.0),
        augment=replace(recipe.augment, shadow=0.0, dropout=0.0, channel_dropout=0.0),
        training=replace(recipe.training, epochs=epochs, start="", hold_norms=False),
        distill=None,
    )


def _read(
    training: Sequence[Case],
    further: Sequence[Case],
    recipe: Recipe,
    *,
    cache: Path | None,
    on_progress: OnProgress,
) -> list[Example]:
    """Read the images of the data set and of folders."""
    spec, total = recipe.deployment, len(training) + len(further)

    def report(done: int) -> None:
        on_progress(Progress("reading", done, total, {}))

    examples = load_cases(training, spec, cache=cache, on_case=report)
    for count, case in enumerate(further, len(training) + 1):
        try:
            examples += (
                load_unlabelled(case, spec) if cache is None
                else load_cached(case, spec, folder=cache, load=load_unlabelled)
            )  # fmt: skip
        except InputError as error:
            raise type(error)(f"{case.image}: {error} Remove it from the folder.") from error
        report(count)
    return examples


def _draw(examples: Sequence[Example], recipe: Recipe, *, workers: int) -> Batches:
    """Return how batches are drawn, wherever structures may lie."""
    model = recipe.deployment.model
    return Batches(
        examples,
        recipe.augment,
        size=recipe.training.batch_size,
        seed=recipe.training.seed,
        patch=recipe.patch_px,
        foreground=0.0,
        repeats=recipe.training.patches,
        workers=workers,
        values=find_values(recipe.deployment.preprocess, spatial_dims=model.spatial_dims),
    )


def _train(trainer: Trainer, output: Path, recipe: Recipe, *, on_progress: OnProgress) -> None:
    """Train from the latest checkpoint, if there is one, to the last epoch."""
    # What paints is no use to labels: the head is kept as it is now.
    state = trainer.model.state_dict().items()
    fresh = {name: value.clone() for name, value in state if name.startswith(_HEAD)}
    log, epochs = resume(output, trainer), recipe.training.epochs
    for epoch in range(len(log), epochs):
        begin = time.monotonic()
        loss = trainer.run_epoch(epoch)["loss"]
        seconds = round(time.monotonic() - begin, 2)
        log.append(
            {"epoch": epoch + 1, "step": trainer.step, "loss": round(loss, 5), "seconds": seconds}
        )
        save_progress(output, trainer, log, recipe.deployment.labels)
        on_progress(Progress("training", epoch + 1, epochs, log[-1]))
    save_tensors(output / WEIGHTS, trainer.average | fresh)
    (output / CHECKPOINT).unlink(missing_ok=True)


def _describe(training: Sequence[Case], further: Further) -> dict[str, Any]:
    """What is known of the images, for the record of the run."""
    files = [case.image for case in further.cases if case.image.is_file()]
    return {
        "images": len(training) + len(further.cases),
        "sha256": [hash_file(file) for file in files],
        "left_out": list(further.left_out),
    }
