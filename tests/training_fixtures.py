"""Fixtures that tests of training share; a module asks for them with `pytest_plugins`.

A second conftest.py beside that of tests/cli would keep pytest from running both folders at once.
"""

import pytest

from runs_for_tests import make_camus, make_recipe


@pytest.fixture(scope="session")
def camus(tmp_path_factory):
    return make_camus(tmp_path_factory.mktemp("camus"))


@pytest.fixture
def recipe(camus):
    return make_recipe(camus)
