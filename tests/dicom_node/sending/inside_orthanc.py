"""Results sent to Orthanc and to dcmtk's storescp; run by `test_orthanc.py` in a namespace."""

import subprocess
import sys
import threading
from io import BytesIO
from pathlib import Path

import highdicom
import httpx
import numpy as np
import pytest
from dicomweb_client import DICOMwebClient
from pydicom import dcmread
from pynetdicom import AE, evt

from archive_for_tests import is_same_object, write_results, write_scan_results
from bedside.dicom_node.sending.delivery import Answer, State
from bedside.dicom_node.sending.destination import DicomDestination, RetryPolicy, WebDestination
from bedside.dicom_node.sending.dimse import COMMITMENT, report_handler
from bedside.dicom_node.sending.instance import read_instance
from bedside.dicom_node.sending.sender import Sender, open_transport
from bedside.dicom_node.ups.inputs import ImageService
from bedside.dicom_node.ups.work_item import InputSeries
from bedside.errors import FormatError
from bedside.service.jobs import JobStore
from orthanc_for_tests import (
    AE_TITLE,
    DICOM_PORT,
    HTTP_PORT,
    NODE_PORT,
    URL,
    Orthanc,
    find_program,
    is_inside,
)

pytestmark = [
    pytest.mark.skipif(not is_inside(), reason="test_orthanc.py runs these"),
    # pynetdicom drops the socket of a connection that is refused without closing it.
    pytest.mark.filterwarnings(
        "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"
    ),
]

BY_FIND = DicomDestination("find", "127.0.0.1", DICOM_PORT, AE_TITLE)
BY_COMMITMENT = DicomDestination(
    "commitment", "127.0.0.1", DICOM_PORT, AE_TITLE, confirm="commitment", report_wait_s=0.1,
    retry=RetryPolicy(first_s=0.1, report_s=60),
)  # fmt: skip
BY_STOW = WebDestination("stow", URL)


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory):
    server = Orthanc(tmp_path_factory.mktemp("orthanc"))
    yield server
    server.close()


def deliver(store, destination, files):
    """Send files with a runner, and a node that takes reports; return the delivery at its end."""
    done = threading.Event()
    ended = (State.CONFIRMED, State.FAILED)
    sender = Sender(store, [destination], on_change=lambda step: step.state in ended and done.set())
    node = AE(ae_title="BEDSIDE")
    node.add_supported_context(COMMITMENT, scu_role=False, scp_role=True)
    handlers = [(evt.EVT_N_EVENT_REPORT, report_handler(sender.receive_report))]
    server = node.start_server(("127.0.0.1", NODE_PORT), block=False, evt_handlers=handlers)
    with sender:
        sender.order("job", files, destination.name)
        sender.start()
        assert done.wait(120)
    server.shutdown()
    return sender.find("job", destination.name)


@pytest.mark.parametrize(
    "destination", [BY_FIND, BY_COMMITMENT, BY_STOW], ids=lambda peer: peer.name
)
def test_results_come_back_equal_valid_and_in_place(orthanc, tmp_path, destination):
    for each in orthanc.get("studies"):
        httpx.delete(f"http://127.0.0.1:{HTTP_PORT}/studies/{each}").raise_for_status()
    paths, places = write_scan_results(tmp_path)
    with JobStore(tmp_path / "state") as store:
        assert deliver(store, destination, paths).state is State.CONFIRMED
    client = DICOMwebClient(URL)
    for path in paths:
        sent = dcmread(path)
        got = client.retrieve_instance(
            sent.StudyInstanceUID, sent.SeriesInstanceUID, sent.SOPInstanceUID
        )
        buffer = BytesIO()
        got.save_as(buffer, enforce_file_format=True)
        assert is_same_object(path, buffer.getvalue())
        returned = tmp_path / f"returned-{path.name}"
        returned.write_bytes(buffer.getvalue())
        validator = Path(sys.executable).with_name("dciodvfy")
        command = [validator if validator.exists() else "dciodvfy", returned]
        checked = subprocess.run(command, capture_output=True, text=True, check=False)
        lines = (checked.stdout + checked.stderr).splitlines()
        assert lines
        assert [line for line in lines if line.startswith("Error")] == []
    volume = highdicom.seg.segread(tmp_path / "returned-segmentation.dcm").get_volume(
        segment_numbers=[1], combine_segments=True
    )
    found = volume.map_indices_to_reference(np.argwhere(volume.array == 1))
    order = np.lexsort(np.round(found, 2).T), np.lexsort(np.round(places, 2).T)
    np.testing.assert_allclose(found[order[0]], places[order[1]], atol=1e-3)


@pytest.mark.parametrize(("destination", "study"), [(BY_FIND, "1.2.3.1"), (BY_STOW, "1.2.3.2")])
def test_what_is_sent_again_is_one_instance_there(orthanc, tmp_path, destination, study):
    paths = write_results(tmp_path, tags={"StudyInstanceUID": study})
    transport, instances = open_transport(destination), [read_instance(path) for path in paths]
    before = len(orthanc.get("instances"))
    for _ in range(3):
        assert {reply.answer for reply in transport.send(instances)} == {Answer.STORED}
    transport.close()
    assert len(orthanc.get("instances")) == before + 2


def test_a_file_that_orthanc_does_not_have_is_absent(orthanc, tmp_path):
    path = write_results(tmp_path, tags={"StudyInstanceUID": "1.2.3.99"})[0]
    for destination in (BY_FIND, BY_STOW):
        transport = open_transport(destination)
        assert transport.ask([read_instance(path)], "1.2").presence == "absent"
        transport.close()


def test_images_are_fetched_as_they_were_stored(orthanc, tmp_path):
    write_scan_results(tmp_path)
    sent = sorted((tmp_path / "ct").iterdir())
    instances = [read_instance(path) for path in sent]
    transport = open_transport(BY_STOW)
    assert {reply.answer for reply in transport.send(instances)} == {Answer.STORED}
    transport.close()
    first = instances[0]
    service = ImageService(BY_STOW)
    for uids in ((), (first.sop_instance_uid, instances[1].sop_instance_uid)):
        series = InputSeries(first.study_instance_uid, first.series_instance_uid, uids)
        (folder := tmp_path / str(len(uids))).mkdir()
        got = {dcmread(path).SOPInstanceUID: path for path in service.fetch(series, folder)}
        assert set(got) == (set(uids) or {each.sop_instance_uid for each in instances})
        for each in instances:
            if each.sop_instance_uid in got:
                assert is_same_object(each.path, got[each.sop_instance_uid].read_bytes())
    with pytest.raises(FormatError, match="no such series"):
        service.fetch(InputSeries("1.2.3", "1.2.4"), tmp_path)
    service.close()


def test_dcmtk_takes_the_files_byte_by_byte(tmp_path):
    (folder := tmp_path / "archive").mkdir()
    paths, _ = write_scan_results(tmp_path)
    options = ["--bit-preserving", "--output-directory", str(folder), "-aet", "DCMTK"]
    process = subprocess.Popen([find_program("storescp"), *options, "10400"])
    retry = RetryPolicy(first_s=0.1, longest_s=0.1)  # until it listens
    peer = DicomDestination("dcmtk", "127.0.0.1", 10400, "DCMTK", confirm="none", retry=retry)
    done = threading.Event()

    def note(step):
        if step.state is State.SENT:
            done.set()

    with JobStore(tmp_path / "state") as store, Sender(store, [peer], on_change=note) as sender:
        sender.order("job", paths, "dcmtk")
        sender.start()
        assert done.wait(60)
        assert sender.find("job", "dcmtk").state is State.SENT
    process.terminate()
    process.wait(60)
    received = {dcmread(path).SOPInstanceUID: path for path in folder.iterdir()}
    assert len(received) == len(paths)
    for path in paths:
        assert is_same_object(path, received[dcmread(path).SOPInstanceUID].read_bytes())
