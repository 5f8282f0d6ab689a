"""The folder of a run: its files, and `run.json`, its record."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from bedside.datasets import Case
from bedside.datasets.duplicates import SharedImage, find_shared_images
from bedside.errors import SpecError
from bedside.spec import Recipe, from_mapping, to_mapping
from bedside.system.atomic import write_text
from bedside.system.revision import find_commit
from bedside.training.checkpoint import read_json
from bedside.training.device import describe_device
from bedside.training.split import check_split, keep_together, split_cases
from bedside.version import __version__

RUN, LOG, CURVES, VALIDATION = "run.json", "log.jsonl", "curves.svg", "validation"
CHECKPOINT, WEIGHTS = "checkpoint.safetensors", "weights.safetensors"
EVALUATION = "evaluation.json"

Split = dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Network:
    """The network of a run, for its record.

    Attributes:
        name: Its architecture's name.
        parameters: Number of its weights.
    """

    name: str
    parameters: int


@dataclass(frozen=True)
class Sources:
    """What a run learns from beside labels, for its record.

    Attributes:
        teachers: Records of the runs that teach it.
        start: Record of the run whose weights it starts from; None for fresh ones.
        unlabelled: Images without labels: how many, hashes of files that are not of the data set,
            and why others are left out; None if it learns from none.
    """

    teachers: Sequence[Mapping[str, Any]] = ()
    start: Mapping[str, Any] | None = None
    unlabelled: Mapping[str, Any] | None = None


def find_split(
    output: Path,
    recipe: Recipe,
    cases: Sequence[Case],
    *,
    on_case: Callable[[int], None] | None = None,
    shared: Sequence[SharedImage] | None = None,
) -> tuple[Split, list[str]]:
    """Return the patients of each part: as the run there recorded them, or by the recipe.

    By the recipe, patients that share an image come into one part.

    Args:
        output: The run folder.
        recipe: How the data are split.
        cases: All cases of the data set.
        on_case: Called with the number of images that were compared.
        shared: The cases that share an image, where these are known already.

    Returns:
        The split, and in sentences who was moved and why.

    Raises:
        SpecError: If the folder holds a run of another recipe.
        SplitError: If the recorded split leaks, or the recipe's cannot be made.
    """
    if not (output / RUN).exists():
        return split_anew(recipe, cases, on_case=on_case, shared=shared)
    run = read_json(output / RUN)
    if from_mapping(Recipe, run["recipe"]) != recipe:
        raise SpecError(
            f"{output} holds a run of another recipe. Choose another folder with -o, or remove it."
        )
    check_split(run["split"])
    split = {part: tuple(patients) for part, patients in run["split"].items()}
    return split, run.get("joined", [])


def split_anew(
    recipe: Recipe,
    cases: Sequence[Case],
    *,
    on_case: Callable[[int], None] | None = None,
    shared: Sequence[SharedImage] | None = None,
) -> tuple[Split, list[str]]:
    """Split a data set by a recipe, and keep patients that share an image together.

    Args:
        recipe: How.
        cases: All cases of the data set.
        on_case: Called with the number of images that were compared.
        shared: The cases that share an image; None to compare their images.

    Returns:
        The split, and in sentences who was moved and why.

    Raises:
        SplitError: If the recipe's split cannot be made.
    """
    split = split_cases([case.patient_id for case in cases], recipe.data)
    if shared is None:
        shared = find_shared_images(cases, on_case=on_case)
    return join_shared(split, shared)


def join_shared(split: Split, shared: Sequence[SharedImage]) -> tuple[Split, list[str]]:
    """Return a split with patients that share an image in one part, and who was moved and why.

    Raises:
        SplitError: If a part is empty then.
    """
    pairs = [(pair.first.patient_id, pair.second.patient_id) for pair in shared]
    joined = keep_together(split, pairs)
    before, after = (
        {patient: part for part, patients in each.items() for patient in patients}
        for each in (split, joined)
    )
    moved = [patient for patient in before if before[patient] != after[patient]]
    return joined, [
        f"{patient} was moved from {before[patient]} to {after[patient]}: "
        + "; ".join(
            pair.describe() for pair, ids in zip(shared, pairs, strict=True) if patient in ids
        )
        for patient in moved
    ]


def open_run(
    output: Path,
    recipe: Recipe,
    cases: Sequence[Case],
    network: Network,
    *,
    split: Split,
    joined: Sequence[str],
    sources: Sources,
) -> None:
    """Start a run folder, or check that the one there is of the same network and teachers.

    Raises:
        SpecError: If it is of others.
    """
    path = output / RUN
    if path.exists():
        _check_same(output, network, sources.teachers)
        return
    used = {patient for patients in split.values() for patient in patients}
    run = {
        "recipe": to_mapping(recipe),
        "split": to_mapping(split),
        "joined": list(joined),
        "unused": sorted({case.patient_id for case in cases} - used),
        "network": network.name,
        "parameters": network.parameters,
        "teachers": list(sources.teachers),
        "start": sources.start,
        **({} if sources.unlabelled is None else {"unlabelled": sources.unlabelled}),
        "commit": find_commit(),
        "bedside": __version__,
        "torch": torch.__version__,
        "device": describe_device(),
    }
    write_text(path, json.dumps(run, indent=1))


def _check_same(output: Path, network: Network, teachers: Sequence[Mapping[str, Any]]) -> None:
    """Compare a run's record with the training to resume."""
    run = read_json(output / RUN)
    recorded = run.get("network", run["recipe"]["deployment"]["model"]["architecture"])
    if recorded != network.name:
        raise SpecError(
            f"{output} holds a run of the network {recorded}, not {network.name}. Choose another "
            "folder with -o, or remove it."
        )
    before, now = (
        [teacher["weights_sha256"] for teacher in each]
        for each in (run.get("teachers", ()), teachers)
    )
    if before != now:
        raise SpecError(
            f"{output} was begun with other weights of its teacher. Choose another folder with "
            "-o, or remove it."
        )


def check_draws(run: Path, record: Mapping[str, Any]) -> None:
    """Refuse a run that has learned from images without labels alone.

    Args:
        run: Its folder, for the error.
        record: What its `run.json` holds.

    Raises:
        SpecError: If it is one.
    """
    if record.get("unlabelled") is not None:
        raise SpecError(
            f"{run} has learned from images without labels alone and draws nothing. Name it as "
            "training.start in a recipe, and train by that."
        )


def hash_file(path: Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def select_cases(cases: Sequence[Case], patients: tuple[str, ...]) -> list[Case]:
    """Keep the cases of some patients, in order."""
    wanted = set(patients)
    return [case for case in cases if case.patient_id in wanted]
