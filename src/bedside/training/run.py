"""One training from recipe to weights, in a run folder that can be left and taken up again.

A run folder holds `run.json` (recipe, split, provenance), `log.jsonl` (a line an epoch),
`curves.svg`, `checkpoint.safetensors` while it runs, and at the end `weights.safetensors` and
`validation/`, the accuracy on the validation patients at their images' own resolution.
"""

import copy
import json
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bedside import __version__
from bedside.atomic import check_writable, write_text
from bedside.errors import SpecError
from bedside.evaluation.cases import evaluate_cases
from bedside.evaluation.report import write_report
from bedside.io.datasets import Case, list_cases
from bedside.models import count_parameters, create
from bedside.segment import Segmenter
from bedside.spec import Label, ModelSpec, Recipe, from_mapping, to_mapping
from bedside.training.checkpoint import (
    load_tensors,
    optimizer_tensors,
    read_json,
    restore_optimizer,
    save_tensors,
)
from bedside.training.curves import write_curves
from bedside.training.dataset import load_cases
from bedside.training.loop import Trainer, validate
from bedside.training.session import TorchSession
from bedside.training.split import check_split, split_patients

RUN, LOG, CURVES, VALIDATION = "run.json", "log.jsonl", "curves.svg", "validation"
CHECKPOINT, WEIGHTS = "checkpoint.safetensors", "weights.safetensors"


@dataclass(frozen=True)
class Progress:
    """How far a training is.

    Attributes:
        stage: "reading" or "training".
        done: Cases read, or epochs trained.
        total: Of how many.
        record: The log's latest line; empty before the first epoch.
    """

    stage: str
    done: int
    total: int
    record: Mapping[str, Any]


def train(
    recipe: Recipe,
    output: Path,
    *,
    data: Path | None = None,
    threads: int | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    create_model: Callable[[ModelSpec], nn.Module] = create,
    network: str | None = None,
) -> Path:
    """Train, or go on where a stopped training of the same recipe left off.

    Args:
        recipe: What to train on what, and how.
        output: Run folder.
        data: Folder of the data set, if not the recipe's.
        threads: Threads of torch; None leaves its choice.
        on_progress: Called after every case read and every epoch.
        create_model: Builds the network, for one that no spec describes.
        network: Its name, which the run records; the recipe's architecture if None.

    Returns:
        The path of the final weights.

    Raises:
        SpecError: If the folder holds a run of another recipe.
        DataError: If the data set is faulty or its split leaks.
        OutputError: If the folder cannot be written.
    """
    check_writable(output)
    if threads:
        torch.set_num_threads(threads)
    folder = data or Path(recipe.data.path)
    cases = list_cases(folder, recipe.data.layout)
    split = open_run(output, recipe, cases, create_model=create_model, network=network)
    if (output / WEIGHTS).exists():
        return output / WEIGHTS
    examples = {
        part: load_cases(
            select_cases(cases, split[part]),
            recipe.deployment,
            on_case=lambda done: on_progress(Progress("reading", done, len(cases), {})),
        )
        for part in ("train", "val")
    }
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(recipe.training.seed)
    trainer = Trainer(
        create_model(recipe.deployment.model),
        recipe.training,
        augment_spec=recipe.augment,
        examples=examples["train"],
        device=device,
    )
    log = _resume(output, trainer)
    for epoch in range(len(log), recipe.training.epochs):
        record = _train_epoch(epoch, trainer, recipe, examples["val"])
        log.append(record)
        _save(output, trainer, log=log, labels=recipe.deployment.labels)
        on_progress(Progress("training", epoch + 1, recipe.training.epochs, record))
    _evaluate(output, trainer, recipe, select_cases(cases, split["val"]))
    save_tensors(output / WEIGHTS, trainer.average)
    (output / CHECKPOINT).unlink(missing_ok=True)
    return output / WEIGHTS


def open_run(
    output: Path,
    recipe: Recipe,
    cases: list[Case],
    *,
    create_model: Callable[[ModelSpec], nn.Module] = create,
    network: str | None = None,
) -> dict[str, tuple[str, ...]]:
    """Start a run folder, or check that the one there is of the same recipe.

    Returns:
        The patients of each part.

    Raises:
        SpecError: If the folder holds a run of another recipe.
        SplitError: If the recorded split leaks.
    """
    path = output / RUN
    if path.exists():
        run = read_json(path)
        if from_mapping(Recipe, run["recipe"]) != recipe:
            raise SpecError(
                f"{output} holds a run of another recipe. Choose another folder with -o, "
                "or remove it."
            )
        check_split(run["split"])
        return {part: tuple(patients) for part, patients in run["split"].items()}
    split = split_patients(
        (case.patient_id for case in cases),
        fractions=recipe.data.split,
        seed=recipe.data.split_seed,
    )
    model = create_model(recipe.deployment.model)
    run = {
        "recipe": to_mapping(recipe),
        "split": to_mapping(split),
        "network": network or recipe.deployment.model.architecture,
        "parameters": count_parameters(model),
        "commit": find_commit(),
        "bedside": __version__,
        "torch": torch.__version__,
    }
    write_text(path, json.dumps(run, indent=1))
    return split


def select_cases(cases: list[Case], patients: tuple[str, ...]) -> list[Case]:
    """Keep the cases of some patients, in order."""
    wanted = set(patients)
    return [case for case in cases if case.patient_id in wanted]


def find_commit() -> str:
    """Name the revision of the code that runs, or the version where there is no repository."""
    here = Path(__file__).parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return f"bedside {__version__}"
    return found.stdout.strip()


def _train_epoch(
    epoch: int, trainer: Trainer, recipe: Recipe, validation: list[Any]
) -> dict[str, Any]:
    begin = time.monotonic()
    loss = trainer.run_epoch(epoch)
    record: dict[str, Any] = {"epoch": epoch + 1, "step": trainer.step, "loss": round(loss, 5)}
    last = epoch + 1 == recipe.training.epochs
    if last or (epoch + 1) % recipe.training.validate_every == 0:
        dice = validate(
            _averaged(trainer),
            validation,
            num_classes=recipe.deployment.model.num_classes,
            device=trainer.device,
        )
        names = [label.name for label in recipe.deployment.labels]
        record["dice"] = {n: round(d, 4) for n, d in zip(names, dice, strict=True)}
    return record | {"seconds": round(time.monotonic() - begin, 2)}


def _evaluate(output: Path, trainer: Trainer, recipe: Recipe, cases: list[Case]) -> None:
    """Score the validation patients on their images' own grid, through the whole pipeline."""
    segmenter = Segmenter(recipe.deployment, TorchSession(_averaged(trainer), trainer.device))
    evaluation = evaluate_cases(segmenter, cases)
    about = {"data": {"name": recipe.data.name, "split": "val"}, "backend": "torch"}
    title = f"{recipe.deployment.name}: validation patients, network in torch"
    write_report(output / VALIDATION, evaluation, about=about, title=title)


def _averaged(trainer: Trainer) -> nn.Module:
    """Copy the network, with the averaged weights."""
    model: nn.Module = copy.deepcopy(trainer.model)
    model.load_state_dict(trainer.average, strict=True)
    return model


def _save(
    output: Path, trainer: Trainer, *, log: list[dict[str, Any]], labels: Sequence[Label]
) -> None:
    """Write the checkpoint last among equals: it alone says how far the run is."""
    tensors = trainer.tensors() | optimizer_tensors(trainer.optimizer)
    note = json.dumps({"log": log, "step": trainer.step})
    save_tensors(output / CHECKPOINT, tensors, note=note)
    write_text(output / LOG, "".join(json.dumps(record) + "\n" for record in log))
    write_curves(output / CURVES, log, labels)


def _resume(output: Path, trainer: Trainer) -> list[dict[str, Any]]:
    path = output / CHECKPOINT
    if not path.exists():
        return []
    tensors, note = load_tensors(path)
    state = json.loads(note)
    trainer.restore(tensors, step=state["step"])
    restore_optimizer(trainer.optimizer, tensors)
    log: list[dict[str, Any]] = state["log"]
    return log
