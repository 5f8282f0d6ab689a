"""A small trained network with enough patients to be compressed, for tests of the autopilot."""

import dataclasses

import pytest

from bedside.training.run import train
from runs_for_tests import make_camus, make_recipe

SPLIT = (0.4, 0.3, 0.3)


@pytest.fixture(scope="session")
def many_patients(tmp_path_factory):
    """30 made-up patients, so that 9 are for validation."""
    return make_camus(tmp_path_factory.mktemp("many"), patients=30)


@pytest.fixture(scope="session")
def trained(many_patients, tmp_path_factory):
    """The folder of a run that has learned something."""
    run = tmp_path_factory.mktemp("trained") / "run"
    recipe = make_recipe(many_patients, epochs=12)
    data = dataclasses.replace(recipe.data, split=SPLIT)
    train(dataclasses.replace(recipe, data=data), run, threads=1)
    return run
