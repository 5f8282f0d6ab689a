"""A finished run, which is no bundle, scored on its test patients in torch."""

from pathlib import Path
from typing import Any

import torch

from bedside.datasets import list_recipe_cases
from bedside.evaluation.cases import Evaluation, evaluate_cases
from bedside.models import create
from bedside.segment import Segmenter
from bedside.spec import Recipe, from_mapping
from bedside.training.checkpoint import load_tensors, read_json
from bedside.training.run import RUN, WEIGHTS, select_cases
from bedside.training.session import TorchSession


def score_run(run: Path, data: Path | None) -> tuple[Evaluation, Recipe, dict[str, Any]]:
    """Score the test patients of a run at their images' own resolution.

    Args:
        run: Folder that `bedside train` made.
        data: Folder of the data set, if not the recipe's.

    Returns:
        The scores, the recipe, and what the run recorded of itself.
    """
    record: dict[str, Any] = read_json(run / RUN)
    recipe = from_mapping(Recipe, record["recipe"])
    model = create(recipe.deployment.model)
    model.load_state_dict(load_tensors(run / WEIGHTS)[0], strict=True)
    segmenter = Segmenter(recipe.deployment, TorchSession(model, torch.device("cpu")))
    cases = select_cases(list_recipe_cases(recipe, data), tuple(record["split"]["test"]))
    return evaluate_cases(segmenter, cases), recipe, record
