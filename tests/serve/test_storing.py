"""Instances that dicomweb-client stores are series of the DICOM node, once, with their results."""

import re
import subprocess
import sys
from pathlib import Path

import highdicom
import numpy as np
import pytest
import requests
from dicomweb_client import DICOMwebClient
from pydicom import dcmread
from pydicom.uid import DeflatedExplicitVRLittleEndian, SegmentationStorage, generate_uid

from bedside.dicom_node.config import DicomSettings, PeerLimits, Route
from bedside.dicom_node.node import DicomNode
from bedside.dicom_node.series import FAILED, KIND, SEGMENTED
from bedside.http_api.server import HttpServer
from bedside.http_api.settings import HttpSettings
from bedside.serve.check import check_settings
from bedside.serve.config import ServeSettings
from bedside.serve.storing import CALLING_AE, NodeIntake
from bedside.service.jobs import JobStore
from dicom_makers import make_slices
from dicom_node_for_tests import wait_for
from protocols_for_tests import open_placing_engine
from threads_for_tests import make_clouds


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    with open_placing_engine(tmp_path_factory.mktemp("models")) as engine:
        yield engine


@pytest.fixture
def node(engine, tmp_path):
    route = (Route("scan", modality="MR", calling_ae=CALLING_AE),)
    settings = DicomSettings(port=0, route=route, limits=PeerLimits(free_mb=1), settle_s=0.2)
    with JobStore(tmp_path / "state") as store, DicomNode(settings, engine, store) as node:
        node.store = store
        node.start()
        yield node


@pytest.fixture
def client(engine, node):
    server = HttpServer(engine, HttpSettings(port=0), intake=NodeIntake(node.files))
    yield DICOMwebClient(f"{server.address}/dicom-web")
    server.close()


def make_series():
    array = make_clouds(9, 20, 24, seed=4).astype(np.uint16)
    series = make_slices(array, modality="MR", slope=None, series=generate_uid())
    for dataset in series:
        dataset.StudyDate = dataset.StudyTime = ""
    return series


def list_failures(module):
    return [hex(item.FailureReason) for item in module.get("FailedSOPSequence", [])]


def test_a_stored_series_is_segmented_as_one_that_was_sent(client, node, engine):
    series = make_series()
    # Without preambles, as this client sends data sets that come from no file.
    module = client.store_instances(series)
    assert len(module.ReferencedSOPSequence) == len(series)
    (job,) = wait_for(lambda: node.store.list(KIND, [SEGMENTED, FAILED]))
    assert job.state == SEGMENTED, job.reason
    (name,) = job.payload["results"]
    with engine.model("scan") as model:
        expected = model.segment(series).labels
    seg = highdicom.seg.segread(node.store.folder(job) / name)
    assert seg.number_of_segments == len(np.unique(expected)) - 1
    assert not list((node.store.path / "spool").glob("*.dcm"))


def test_what_the_node_does_not_take_is_named(client, node):
    series = make_series()
    wrong_class, deflated = series[0], series[1]
    wrong_class.SOPClassUID = SegmentationStorage
    wrong_class.file_meta.MediaStorageSOPClassUID = SegmentationStorage
    deflated.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    module = client.store_instances(series)
    assert list_failures(module) == ["0x122", "0xc122"]
    assert len(module.ReferencedSOPSequence) == len(series) - 2


def test_an_instance_is_taken_once_and_not_replaced(client, node):
    series = make_series()
    client.store_instances(series)
    assert not list_failures(client.store_instances(series))
    series[3].ImageComments = "another"
    module = client.store_instances(series)
    assert list_failures(module) == ["0x111"]
    jobs = wait_for(lambda: node.store.list(KIND, [SEGMENTED, FAILED]))
    assert len(jobs) == 1
    stored = sorted(node.store.folder(jobs[0]).glob("images/*.dcm"))
    assert {dcmread(path).SOPInstanceUID for path in stored} == {
        dataset.SOPInstanceUID for dataset in series
    }


def test_a_check_says_where_things_are_stored():
    lines, _ = check_settings(ServeSettings(http=HttpSettings(image_store="/a", archive_url="x:")))
    (line,) = [line for line in lines if line.startswith("store")]
    assert line.count("/a") == 2
    assert "x:" in line
    lines, _ = check_settings(ServeSettings(dicom=DicomSettings(), state=Path("state")))
    assert "the DICOM node" in "".join(lines)


def test_a_server_with_a_node_hands_instances_to_it(tmp_path):
    (tmp_path / "serve.toml").write_text(
        'state = "state"\n[http]\nport = 0\nhealth_port = 0\n'
        '[dicom]\nport = 0\n[[dicom.route]]\nmodel = "hippocampus"\nmodality = "CT"\n'
    )
    command = [sys.executable, "-m", "bedside", "serve", "--config", "serve.toml"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        try:
            address = re.search(r"http://\S+", process.stderr.readline())[0]
            module = DICOMwebClient(f"{address}/dicom-web").store_instances(make_series())
            assert len(module.ReferencedSOPSequence) == 9
            assert len(list((tmp_path / "state" / "jobs").rglob("images/*.dcm"))) == 9
        finally:
            process.kill()


def test_a_full_disk_is_told(client, node, monkeypatch):
    monkeypatch.setattr(node.files, "_free_bytes", 2**62)
    with pytest.raises(requests.HTTPError, match="409") as caught:
        client.store_instances(make_series()[:1])
    assert caught.value.response.json()["00081198"]["Value"][0]["00081197"]["Value"] == [0xA700]
