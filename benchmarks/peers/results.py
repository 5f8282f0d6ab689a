"""A trained network's figures as one small file, so that tables add up over time."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bedside.evaluation.cases import Evaluation
from bedside.evaluation.intervals import mean_interval
from bedside.runtime.machine import describe_processor
from bedside.spec import Recipe, to_mapping
from bedside.system.atomic import write_text
from bedside.training.device import choose_device
from bedside.training.precision import has_bf16
from peers.graphs import PrecisionCheck
from peers.networks import Network

DIGITS = 5


def write_result(
    path: Path,
    network: Network,
    recipe: Recipe,
    *,
    run: dict[str, Any],
    evaluations: Mapping[str, Evaluation],
    checks: Sequence[PrecisionCheck],
    rates: Mapping[float, float],
) -> None:
    """Write what a training came to.

    Args:
        path: JSON file.
        network: What was trained.
        recipe: How.
        run: The run folder's record: commit, split, number of weights.
        evaluations: Of the test patients, by precision, "f32" among them.
        checks: Of the precisions, on the validation patients.
        rates: Learning rates that were tried, and the mean validation Dice of each.
    """
    evaluation = evaluations["f32"]
    content = {
        "network": network.name,
        "title": network.title,
        "source": network.source,
        "ours": network.ours,
        "status": "trained",
        "parameters": run["parameters"],
        "trained_on": run.get("device", ""),
        "trained_in": "bf16" if has_bf16(choose_device()) else "f32",
        "data": recipe.data.name,
        "input_px": recipe.deployment.input.size_px,
        "epochs": recipe.training.epochs,
        "batch_size": recipe.training.batch_size,
        "learning_rate": recipe.training.learning_rate,
        "seed": recipe.training.seed,
        "rates": {f"{rate:g}": dice for rate, dice in rates.items()},
        "taught": recipe.distill is not None,
        "split": {
            "fractions": recipe.data.split,
            "seed": recipe.data.split_seed,
            "patients": {part: len(names) for part, names in run["split"].items()},
        },
        "test_cases": len(evaluation.cases),
        "unit": evaluation.unit,
        "mean_dice": _mean_dice(evaluation),
        "structures": {
            structure.name: {
                metric: to_mapping(getattr(structure, metric))
                for metric in ("dice", "hd95_mm", "asd_mm")
            }
            for structure in evaluation.structures
        },
        "precisions": [
            to_mapping(check) | {"test_mean_dice": _mean_dice(evaluations[check.precision])}
            for check in checks
        ],
        "commit": run["commit"],
        "torch": run["torch"],
        "processor": describe_processor(),
        "case_dice": {name: _case_dice(each) for name, each in evaluations.items()},
    }
    write_text(path, _format(_rounded(content)))


def _mean_dice(evaluation: Evaluation) -> dict[str, Any]:
    patients = [case.patient_id for case in evaluation.cases]
    mapping: dict[str, Any] = to_mapping(
        mean_interval([case.mean_dice for case in evaluation.cases], patients)
    )
    return mapping


def _case_dice(evaluation: Evaluation) -> dict[str, dict[str, list[float | None]]]:
    """Dice of each structure, in the order of the structures, by patient and case."""
    dice: dict[str, dict[str, list[float | None]]] = {}
    for case in evaluation.cases:
        scores = [score.dice for score in case.structures.values()]
        dice.setdefault(case.patient_id, {})[case.case_id] = scores
    return dice


def _format(content: dict[str, Any]) -> str:
    """Write JSON with a list of numbers on one line."""
    text = json.dumps(content, indent=1)
    return re.sub(r"\[[\d.,\s-]+\]", lambda found: " ".join(found[0].split()), text) + "\n"


def _rounded(value: Any) -> Any:
    """Shorten numbers to what means something."""
    if isinstance(value, float):
        return round(value, DIGITS)
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value
