"""Several trainings of one recipe, with other seeds and folds, and their summary."""

import functools
import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bedside.spec import Recipe
from bedside.system.atomic import write_text
from bedside.training.checkpoint import read_json
from bedside.training.device import choose_device
from bedside.training.folder import EVALUATION, VALIDATION, WEIGHTS
from bedside.training.parallel import rank, together
from bedside.training.run import Progress, train

SUMMARY = "summary.json"


@dataclass(frozen=True)
class Member:
    """One training of a series.

    Attributes:
        name: Name of its run folder.
        recipe: The recipe.
    """

    name: str
    recipe: Recipe


@dataclass(frozen=True)
class Spread:
    """One structure's validation Dice over the trainings of a series.

    Attributes:
        mean: Mean over them.
        low: The lowest.
        high: The highest.
    """

    mean: float
    low: float
    high: float


def list_members(recipe: Recipe, *, seeds: Sequence[int], folds: int = 0) -> list[Member]:
    """Every combination of a fold and a seed, with its recipe.

    Args:
        recipe: What they have in common.
        seeds: Seeds of training; the recipe's own if empty.
        folds: Number of folds of a cross-validation; 0 for the recipe's own split.

    Raises:
        SpecError: If there is one fold only.

    """
    chosen = tuple(dict.fromkeys(seeds)) or (recipe.training.seed,)
    members = []
    for fold, seed in itertools.product(range(folds) if folds else (None,), chosen):
        data = recipe.data if fold is None else replace(recipe.data, folds=folds, fold=fold)
        training = replace(recipe.training, seed=seed)
        name = f"seed-{seed}" if fold is None else f"fold-{fold}-seed-{seed}"
        members.append(Member(name, replace(recipe, data=data, training=training)))
    return members


def train_series(
    members: Sequence[Member],
    output: Path,
    *,
    data: Path | None = None,
    cache: Path | None = None,
    threads: int | None = None,
    on_progress: Callable[[Member, Progress], None] = lambda member, progress: None,
) -> Path:
    """Train all members one after the other, except finished ones.

    Args:
        members: What to train; see `list_members`.
        output: Folder of the run folders.
        data: See `train`.
        cache: See `train`.
        threads: See `train`.
        on_progress: Called with the member that is trained, and as by `train`.

    Returns:
        The path of `summary.json`, which is written anew after every member.
    """
    with together(choose_device()):
        for count, member in enumerate(members, 1):
            train(
                member.recipe,
                output / member.name,
                data=data,
                cache=cache,
                threads=threads,
                on_progress=functools.partial(on_progress, member),
            )
            if rank() == 0:
                write_summary(output, members[:count])
    return output / SUMMARY


def write_summary(output: Path, members: Sequence[Member]) -> None:
    """Write the Dice of each structure, per finished member and together."""
    runs = {
        member.name: read_dice(output / member.name)
        for member in members
        if (output / member.name / WEIGHTS).exists()
    }
    structures = {name: vars(spread) for name, spread in spread_dice(runs).items()}
    about = {
        "recipe": members[0].recipe.deployment.name,
        "validation_dice": {name: dict(dice) for name, dice in runs.items()},
        "structures": structures,
    }
    write_text(output / SUMMARY, json.dumps(about, indent=1))


def read_dice(run: Path) -> dict[str, float]:
    """Read the mean validation Dice of each structure of a finished run."""
    evaluation: Mapping[str, Any] = read_json(run / VALIDATION / EVALUATION)
    return {structure["name"]: structure["dice"]["mean"] for structure in evaluation["structures"]}


def read_spread(summary: Path) -> dict[str, Spread]:
    """Read mean and range of each structure from a `summary.json`."""
    structures = read_json(summary)["structures"]
    return {name: Spread(**spread) for name, spread in structures.items()}


def spread_dice(runs: Mapping[str, Mapping[str, float]]) -> dict[str, Spread]:
    """Mean and range over runs of each structure, and of the mean over structures.

    Example:
        >>> spread_dice({"a": {"x": 0.5, "y": 0.5}, "b": {"x": 1.0, "y": 0.5}})["mean"]
        Spread(mean=0.625, low=0.5, high=0.75)
    """
    first = next(iter(runs.values()))
    table = {name: [dice[name] for dice in runs.values()] for name in first}
    table["mean"] = [sum(dice.values()) / len(dice) for dice in runs.values()]
    return {
        name: Spread(sum(values) / len(values), min(values), max(values))
        for name, values in table.items()
    }
