"""Work items of a worklist in another process, claimed, updated and completed over DIMSE."""

import json
import shutil
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from datetime import UTC, datetime

import pytest
from pydicom import Dataset, dcmread
from pydicom.uid import generate_uid

import ups_dimse_program
from bedside.dicom_node.sending.destination import DicomDestination, RetryPolicy, Tls
from bedside.dicom_node.ups.config import WorklistSettings
from bedside.dicom_node.ups.performer import PerformerSettings
from bedside.dicom_node.ups.service import PerformerService, find_peers
from bedside.dicom_node.ups.ups_dimse import DimseService, DimseWorklist
from bedside.dicom_node.ups.work_item import (
    CANCELED_ON_REQUEST,
    make_discontinuation,
    make_progress,
)
from bedside.errors import ConflictError, PeerError, SpecError
from dicom_node_for_tests import wait_for

# pynetdicom leaves the socket of a connection that does not come about to the garbage collector.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"
)

QUICK = RetryPolicy(first_s=0.01, longest_s=0.02)


class Peer:
    """The other process.

    Attributes:
        url: Root of the images.
        address: Of the worklist.
    """

    def __init__(self, process):
        self._process = process
        told = self._read()
        self.url, self.address = told["url"], f"dicom://WORKLIST@127.0.0.1:{told['port']}"

    def look(self, event=""):
        """What has become of the work items, after an event was sent."""
        self._process.stdin.write(f"{event}\n")
        self._process.stdin.flush()
        return self._read()

    def state(self, uid):
        return self.look()["items"][uid]["00741000"]["Value"][0]

    def _read(self):
        return json.loads(self._process.stdout.readline())


@contextmanager
def running(*uids_and_images):
    """A worklist in a process of its own."""
    command = [sys.executable, ups_dimse_program.__file__, *map(str, uids_and_images)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Peer(process)
        finally:
            process.stdin.close()
            assert process.wait(60) == 0


def connect(peer):
    return DimseWorklist(
        DimseService.from_url(peer.address, calling_ae_title="BEDSIDE", query={}, tls=Tls())
    )


def test_a_work_item_is_claimed_once_and_ends_only_by_who_has_its_key(image):
    with running("1.2.1", image, "1.2.2", image, "1.2.3", image) as peer:
        worklist, key, other = connect(peer), str(generate_uid()), str(generate_uid())
        found = worklist.search(10)
        assert {item.SOPInstanceUID for item in found} == {"1.2.1", "1.2.2", "1.2.3"}
        assert len(worklist.search(2)) == 2
        assert len(worklist.search(2, 2)) == 1
        worklist.change_state("1.2.1", "IN PROGRESS", key)
        assert worklist.retrieve("1.2.1").ProcedureStepState == "IN PROGRESS"
        worklist.update("1.2.1", make_progress(0.5), key)
        for refused in (
            lambda: worklist.change_state("1.2.1", "IN PROGRESS", other),
            lambda: worklist.update("1.2.1", make_progress(0.7), other),
            lambda: worklist.change_state("1.2.1", "COMPLETED", key),  # without results
            lambda: worklist.change_state("1.2.1", "CANCELED", other),
            lambda: worklist.retrieve("1.2.9"),
        ):
            with pytest.raises(ConflictError):
                refused()
        now = datetime.now(UTC)
        worklist.update("1.2.1", make_discontinuation(CANCELED_ON_REQUEST, "no", now), key)
        worklist.change_state("1.2.1", "CANCELED", key)
        assert peer.state("1.2.1") == "CANCELED"
        with pytest.raises(PeerError, match="events"):
            worklist.subscribe("1.2.2", "BEDSIDE")
    with pytest.raises(PeerError):  # it has gone
        worklist.search(1)


def test_performers_complete_each_work_item_once_over_dimse(store, sender, archive, image):
    seg = dcmread(image.with_name("segmentation.dcm"))

    def work(item, inputs, outputs, report):
        (found,) = inputs.rglob("*.dcm")
        assert found.read_bytes() == image.read_bytes()
        report(0.5)
        shutil.copy(image.with_name("segmentation.dcm"), outputs)

    with running("1.2.1", image, "1.2.2", image) as peer:
        settings = WorklistSettings(
            peer.address, {"*": "any"}, images_url=peer.url,
            archive=DicomDestination("pacs", "127.0.0.1", archive.port, "ARCHIVE"),
        )  # fmt: skip
        performed = PerformerSettings("pacs", retry=QUICK, look_s=0.05)
        with PerformerService(
            store, find_peers(settings), sender, work, performed, threads=2
        ) as service:
            service.start()
            assert wait_for(lambda: sum(peer.look()["completions"].values()) == 2)
        told = peer.look()
    assert told["completions"] == told["claims"] == {"1.2.1": 1, "1.2.2": 1}
    for uid in ("1.2.1", "1.2.2"):
        item = Dataset.from_json(told["items"][uid])
        results = item.UnifiedProcedureStepPerformedProcedureSequence[0]
        (output,) = results.OutputInformationSequence
        (reference,) = output.ReferencedSOPSequence
        assert reference.ReferencedSOPInstanceUID == seg.SOPInstanceUID
    assert set(archive.kept) == {seg.SOPInstanceUID}


def test_a_request_to_cancel_comes_to_the_node_and_ends_the_work(
    store, sender, archive, image, receive
):
    begun, ends = threading.Event(), {}

    def work(item, inputs, outputs, report):
        begun.set()
        while True:  # until somebody cancels it
            report(0.1)
            time.sleep(0.01)

    def note(job):
        ends[job.key] = job.state

    with running("1.2.1", image) as peer:
        settings = WorklistSettings(
            peer.address, {"*": "any"}, images_url=peer.url,
            archive=DicomDestination("pacs", "127.0.0.1", archive.port, "ARCHIVE"),
        )  # fmt: skip
        performed = PerformerSettings("pacs", retry=QUICK, look_s=0.05)
        with PerformerService(
            store, find_peers(settings, with_node=True), sender, work, performed, on_step=note
        ) as service:
            node = receive(cancel_work=service.cancel_soon)
            host, port = node.address
            service.start()
            assert begun.wait(60)
            assert peer.look()["subscribed"] == {"1.2.1": "BEDSIDE"}
            # Of another item, and of this one that it is in progress: nothing ends.
            peer.look(f"1.2.9 2 SCHEDULED {host} {port}")
            peer.look(f"1.2.1 1 SCHEDULED {host} {port}")
            assert peer.state("1.2.1") == "IN PROGRESS"
            peer.look(f"1.2.1 2 SCHEDULED {host} {port}")
            assert wait_for(lambda: peer.state("1.2.1") == "CANCELED")
            assert wait_for(lambda: ends.get("1.2.1") == "canceled")
    assert archive.kept == {}


@pytest.mark.parametrize(
    "url", ["dicom://pacs:104", "dicom://WORKLIST@pacs", "dicom://W@:104", "dicom://W@pacs:x"]
)
def test_addresses_that_are_none_are_refused(url):
    good = {"archive": DicomDestination("a", "h", 104, "A"), "images_url": "https://pacs"}
    with pytest.raises(SpecError, match="dicom://AE_TITLE@"):
        find_peers(WorklistSettings(url, {"*": "m"}, **good))
    with pytest.raises(SpecError, match="images_url"):
        WorklistSettings("dicom://W@pacs:104", {"*": "m"}, archive=good["archive"])


def test_certificates_are_used_where_the_address_says_so():
    for scheme, expected in (("dicom", None), ("dicom+tls", Tls())):
        service = DimseService.from_url(
            f"{scheme}://W%20L@pacs:104", calling_ae_title="US", query={}, tls=Tls()
        )
        assert service.peer.tls == expected
        assert (service.peer.ae_title, service.peer.port) == ("W L", 104)
