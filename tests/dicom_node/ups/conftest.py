import pytest

from archive_for_tests import Archive, write_results
from bedside.dicom_node.sending.destination import DicomDestination, RetryPolicy
from bedside.dicom_node.sending.sender import Sender
from bedside.service.jobs import JobStore
from ups_for_tests import UpsServer

QUICK = RetryPolicy(first_s=0.01, longest_s=0.02)


@pytest.fixture(scope="session")
def image(tmp_path_factory):
    """An image, beside which its SEG and SR are."""
    return write_results(tmp_path_factory.mktemp("image"))[0].with_name("image.dcm")


@pytest.fixture
def store(tmp_path):
    with JobStore(tmp_path / "state") as opened:
        yield opened


@pytest.fixture
def ups():
    with UpsServer() as server:
        yield server


@pytest.fixture
def archive():
    with Archive() as opened:
        yield opened


@pytest.fixture
def sender(store, archive):
    peer = DicomDestination("pacs", "127.0.0.1", archive.port, "ARCHIVE", retry=QUICK)
    with Sender(store, [peer]) as opened:
        opened.start()
        yield opened
