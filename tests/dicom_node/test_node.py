"""The node as a whole: an image from storescu becomes a SEG."""

import highdicom
import pytest
from pydicom import dcmread

from bedside.dicom_node.config import DicomSettings, PeerLimits, Route
from bedside.dicom_node.node import DicomNode
from bedside.dicom_node.series import FAILED, KIND, SEGMENTED
from bedside.service.jobs import JobStore
from dicom_node_for_tests import send, wait_for, write_cine
from servers_for_tests import open_engine


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    with open_engine(tmp_path_factory.mktemp("models")) as opened:
        yield opened


@pytest.fixture
def run_node(engine, tmp_path):
    """Start nodes on one folder, each until the next."""
    opened = []

    def close():
        while opened:
            opened.pop().close()

    def run(**settings):
        close()
        store = JobStore(tmp_path / "state")
        opened.append(store)
        settings = DicomSettings(
            port=0, output=tmp_path / "out", limits=PeerLimits(free_mb=1), settle_s=0.2, **settings
        )
        node = DicomNode(settings, engine, store)
        opened.append(node)
        node.store = store
        node.start()
        return node

    yield run
    close()


def test_a_film_becomes_a_seg_in_a_folder(run_node, tmp_path):
    node = run_node(route=(Route("plane", modality="US"),))
    source = write_cine(tmp_path / "cine.dcm", frames=6)
    is_sent, text = send(node.server.address, source)
    assert is_sent, text

    (job,) = wait_for(lambda: node.store.list(KIND, [SEGMENTED, FAILED]))
    assert job.state == SEGMENTED, job.reason
    (result,) = (tmp_path / "out" / job.id).rglob("*.dcm")
    seg = dcmread(result)
    reference = seg.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0]
    assert reference.ReferencedSOPInstanceUID == dcmread(source).SOPInstanceUID
    assert highdicom.seg.segread(result).number_of_segments >= 1


def test_a_series_that_no_route_fits_is_told_and_not_segmented(run_node, tmp_path):
    node = run_node(route=(Route("scan", modality="MR"),))
    assert send(node.server.address, write_cine(tmp_path / "cine.dcm"))[0]

    (job,) = wait_for(lambda: node.store.list(KIND, [SEGMENTED, FAILED]))
    assert job.state == FAILED
    assert job.reason == "no [[dicom.route]] fits it; its modality is US"
