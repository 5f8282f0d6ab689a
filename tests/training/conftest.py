import pytest

from runs_for_tests import make_camus, make_recipe


@pytest.fixture(scope="session")
def camus(tmp_path_factory):
    return make_camus(tmp_path_factory.mktemp("camus"))


@pytest.fixture
def recipe(camus):
    return make_recipe(camus)
