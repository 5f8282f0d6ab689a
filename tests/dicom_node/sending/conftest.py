import pytest

from archive_for_tests import write_results
from bedside.service.jobs import JobStore


@pytest.fixture(scope="session")
def results(tmp_path_factory):
    """A SEG and an SR."""
    return write_results(tmp_path_factory.mktemp("results"))


@pytest.fixture
def store(tmp_path):
    with JobStore(tmp_path / "state") as opened:
        yield opened
