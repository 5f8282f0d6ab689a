"""Finished runs as teachers: opened, checked against the student's data, and recorded."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from bedside.errors import FormatError, SpecError, SplitError
from bedside.models import create
from bedside.spec import Recipe, from_mapping
from bedside.training.checkpoint import load_tensors, read_json
from bedside.training.distill import Distill
from bedside.training.distillation import FeatureMatch
from bedside.training.folder import RUN, WEIGHTS, Split, check_draws, hash_file
from bedside.training.tasks import Supervised, Task


@dataclass(frozen=True)
class Teacher:
    """A trained network, and its record.

    Attributes:
        model: The network in evaluation mode.
        recipe: What it was trained by.
        record: For the student's `run.json`: name, size, commit, hash of the weights, and
            every patient that the teacher, or a teacher of its own, was trained on.
    """

    model: nn.Module
    recipe: Recipe
    record: Mapping[str, Any]


def open_start(recipe: Recipe, split: Split, device: torch.device) -> Teacher | None:
    """Open the run whose weights a training starts from; None if the recipe names none.

    Raises:
        FormatError: As `open_teacher`.
        SpecError: If it is of another network, or draws other labels.
        SplitError: As `open_teacher`.
    """
    if not recipe.training.start:
        return None
    run = Path(recipe.training.start)
    start = open_teacher(run, recipe, split, device, role="start", same_preprocess=False)
    if start.recipe.deployment.model != recipe.deployment.model:
        raise SpecError(
            f"training.start is {run}, a run of another network than deployment.model. Start from "
            "a run of the same network, or from fresh weights."
        )
    return start


def open_teacher(
    run: Path,
    student: Recipe,
    split: Split,
    device: torch.device,
    *,
    role: str = "teacher",
    same_preprocess: bool = True,
) -> Teacher:
    """Open a finished run as the teacher of a student, or as what its training starts from.

    Args:
        run: Its folder.
        student: The student's recipe.
        split: The student's patients.
        device: Where it will teach.
        role: What it is called in errors.
        same_preprocess: Whether it must see images preprocessed as the student's are.

    Raises:
        FormatError: If the run is not there or not finished.
        SpecError: If the teacher sees other inputs than the student, draws other labels, or
            is a network that cannot be rebuilt.
        SplitError: If the teacher has seen a patient that the student will be tested or
            validated on, or data of which this cannot be known.
    """
    if not (run / RUN).exists():
        raise FormatError(
            f"the run {run} is not there. Train the {role} first, or name another run in the "
            "recipe."
        )
    record = read_json(run / RUN)
    recipe = from_mapping(Recipe, record["recipe"])
    if not (run / WEIGHTS).exists():
        raise FormatError(f"the {role}'s run {run} is not finished. Train it to its end first.")
    if role != "start":
        check_draws(run, record)
    _check_same_view(run, record, recipe, student, same_preprocess=same_preprocess)
    seen = set(record["split"]["train"])
    started = [record["start"]] if record.get("start") else []
    for other in (*record.get("teachers", ()), *started):
        seen.update(other["patients"])
    _check_unseen(run, recipe, student, seen=seen, split=split)
    model = create(recipe.deployment.model)
    model.load_state_dict(load_tensors(run / WEIGHTS)[0], strict=True)
    about = {
        "run": run.name,
        "name": recipe.deployment.name,
        "parameters": record["parameters"],
        "commit": record["commit"],
        "weights_sha256": hash_file(run / WEIGHTS),
        "patients": sorted(seen),
        "bundle": record.get("bundle", ""),
        "unlabelled": record.get("unlabelled", {}).get("images"),
    }
    return Teacher(model.to(device).eval(), recipe, about)


def _check_same_view(
    run: Path,
    record: Mapping[str, Any],
    recipe: Recipe,
    student: Recipe,
    *,
    same_preprocess: bool,
) -> None:
    """Check that teacher and student have the same input and labels."""
    theirs, ours = recipe.deployment, student.deployment
    network = record.get("network", theirs.model.architecture)
    if network != theirs.model.architecture:
        raise SpecError(f"the teacher {run} is a {network}, which no recipe can rebuild.")
    pairs = {
        "input": (theirs.input, ours.input),
        "preprocess": (theirs.preprocess, ours.preprocess),
        "labels": (
            [label.name for label in theirs.labels],
            [label.name for label in ours.labels],
        ),
    }
    if not same_preprocess:
        del pairs["preprocess"]
    for name, (their, our) in pairs.items():
        if their != our:
            raise SpecError(
                f"the teacher {run} was trained with another deployment.{name} than the student: "
                f"{their}, not {our}. Train it by a recipe that extends the same one."
            )


def _check_unseen(
    run: Path, recipe: Recipe, student: Recipe, *, seen: set[str], split: Split
) -> None:
    """Check that the teacher was not trained on the student's validation or test patients."""
    theirs, ours = ((data.name, data.layout) for data in (recipe.data, student.data))
    if theirs != ours:
        raise SplitError(
            f"the teacher {run} was trained on {theirs}, the student learns from {ours}: whether "
            "it has seen the student's test patients cannot be known."
        )
    for part in ("val", "test"):
        for patient in split[part]:
            if patient in seen:
                raise SplitError(
                    f'patient "{patient}" is in the student\'s part "{part}", but the teacher '
                    f"{run} was trained on it: the split leaks. Train the teacher with the same "
                    "split and fold."
                )


def create_task(
    recipe: Recipe, model: nn.Module, teachers: Sequence[Teacher], device: torch.device
) -> Task:
    """Training task of a recipe: expert labels, and distillation if it names teachers.

    Raises:
        SpecError: If features are wanted of a network that has none.
    """
    supervised = Supervised(recipe.training, num_classes=recipe.deployment.model.num_classes)
    if recipe.distill is None:
        return supervised.to(device)
    match = None
    if recipe.distill.channel_weight and recipe.distill.channel_on == "features":
        if not hasattr(model, "supervise"):
            raise SpecError(
                'distill.channel_on is "features", and this network gives none. Set it to "logits".'
            )
        match = FeatureMatch(recipe.deployment.model, teachers[0].recipe.deployment.model)
    models = [teacher.model for teacher in teachers]
    return Distill(supervised, recipe.distill, teachers=models, match=match).to(device)
