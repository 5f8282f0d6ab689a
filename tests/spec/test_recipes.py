"""Every recipe in the repository: read strictly, and of a layout and codes that are known."""

import pytest

from bedside.datasets import LAYOUTS
from bedside.spec import read_recipe, shipped_recipes

RECIPES = shipped_recipes()


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_says_all_that_a_training_needs(path):
    recipe = read_recipe(path)
    assert recipe.data.layout in LAYOUTS
    assert recipe.data.source
    assert recipe.data.license
    for label in recipe.deployment.labels:
        assert label.type.scheme in ("SCT", "99BEDSIDE")
        assert label.type.value.isdigit() == (label.type.scheme == "SCT")
