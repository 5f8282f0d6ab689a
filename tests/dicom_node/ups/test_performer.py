"""Work items are claimed once, segmented, sent and completed; whatever is lost, and by whom."""

import shutil
import threading
import time
from contextlib import suppress

import pytest
from pydicom import dcmread

from bedside.dicom_node.sending.destination import RetryPolicy, WebDestination
from bedside.dicom_node.ups.inputs import ImageService
from bedside.dicom_node.ups.performer import Performer, PerformerSettings
from bedside.dicom_node.ups.service import Peers, PerformerService
from bedside.dicom_node.ups.ups_rs import WebWorklist, WorklistService
from bedside.dicom_node.ups.work_item import make_progress
from bedside.errors import CancelledError, ConflictError, FormatError, PeerError, SpecError
from bedside.service.jobs import JobStore
from ups_for_tests import UpsServer, make_work_item

QUICK = RetryPolicy(first_s=0.01, longest_s=0.02)
SETTINGS = PerformerSettings("pacs", retry=QUICK, look_s=0.0)
ENDED = ("completed", "canceled", "failed", "lost")


def copy_results(image):
    """Work that takes the results that lie beside the image, once its copy has arrived."""

    def work(item, inputs, outputs, report):
        (found,) = inputs.rglob("*.dcm")
        assert found.read_bytes() == image.read_bytes()
        report(0.5)
        for name in ("segmentation.dcm", "measurements.dcm"):
            shutil.copy(image.with_name(name), outputs)

    return work


class Performing:
    """A performer without threads, with clients of its own."""

    def __init__(self, ups, store, sender, work, settings=SETTINGS):
        self.worklist = WebWorklist(WorklistService(ups.url))
        self.images = ImageService(WebDestination("images", ups.url))
        self.performer = Performer(store, self.worklist, self.images, sender, work, settings)

    def run(self, until=ENDED):
        """Take steps until a work item is in one of some states; return them all."""
        states, end = [], time.monotonic() + 60
        while not states or states[-1].state not in until:
            assert time.monotonic() < end, states
            job = self.performer.step(wait_s=0.2)
            if job is not None:
                states.append(job)
        return states

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.worklist.close()
        self.images.close()


def test_a_work_item_is_performed_from_claim_to_completion(ups, store, sender, archive, image):
    ups.schedule(make_work_item("1.2.1", [image]), [image])
    with Performing(ups, store, sender, copy_results(image)) as performing:
        states = [job.state for job in performing.run()]
        assert performing.performer.step() is None
    assert list(dict.fromkeys(states)) == [
        "claimed", "segmented", "sending", "stored", "completed",
    ]  # fmt: skip
    assert ups.state("1.2.1") == "COMPLETED"
    assert ups.completions["1.2.1"] == 1
    item = ups.item("1.2.1")
    results = item.UnifiedProcedureStepPerformedProcedureSequence[0]
    seg, sr = (dcmread(image.with_name(f"{name}.dcm")) for name in ("segmentation", "measurements"))
    named = {
        reference.ReferencedSOPInstanceUID
        for output in results.OutputInformationSequence
        for reference in output.ReferencedSOPSequence
    }
    assert named == {seg.SOPInstanceUID, sr.SOPInstanceUID} == set(archive.kept)
    assert results.PerformedWorkitemCodeSequence[0].CodeValue == "1"
    assert item.ProcedureStepProgressInformationSequence[0].ProcedureStepProgress == 100


def test_items_of_others_and_those_that_are_not_ready_are_left(ups, store, sender, image):
    waiting = make_work_item("1.2.1", [image])
    waiting.InputReadinessState = "INCOMPLETE"
    other = make_work_item("1.2.2", [image], label="Something else")
    empty = make_work_item("1.2.3", [image])
    del empty.InputInformationSequence[:]
    for item in (waiting, other, empty):
        ups.schedule(item, [image])
    settings = PerformerSettings(
        "pacs", wants=lambda item: item.label == "Segment" and item.codes == ("1^99TEST",)
    )
    with Performing(ups, store, sender, copy_results(image), settings) as performing:
        assert performing.performer.step() is None
    assert {ups.state(uid) for uid in ups.items} == {"SCHEDULED"}


def test_items_of_others_hide_none(ups, store, sender, image):
    for number in range(5):
        ups.schedule(make_work_item(f"1.2.{number}", [image], label="Something else"), [image])
    ups.schedule(make_work_item("1.3", [image]), [image])
    settings = PerformerSettings(
        "pacs", wants=lambda item: item.label == "Segment", page=2, look_s=0.0
    )
    with Performing(ups, store, sender, copy_results(image), settings) as performing:
        assert performing.run()[-1].key == "1.3"


def test_a_fault_ends_its_item_and_no_other(ups, store, sender, image):
    for uid in ("1.2.1", "1.2.2"):
        ups.schedule(make_work_item(uid, [image]), [image])

    def work(item, inputs, outputs, report):
        if item.uid == "1.2.1":
            raise ZeroDivisionError
        copy_results(image)(item, inputs, outputs, report)

    with Performing(ups, store, sender, work) as performing:
        ends = {job.key: job for job in (performing.run()[-1], performing.run()[-1])}
    assert ends["1.2.1"].state == "failed"
    assert "ZeroDivisionError" in ends["1.2.1"].reason
    assert ends["1.2.2"].state == "completed"


def test_ended_items_are_removed_with_their_images(ups, store, sender, image):
    ups.schedule(make_work_item("1.2.1", [image]), [image])
    with Performing(ups, store, sender, copy_results(image)) as performing:
        job = performing.run()[-1]
    assert store.folder(job).exists()
    peers = Peers(WorklistService(ups.url), WebDestination("images", ups.url))
    removed = threading.Event()
    with PerformerService(store, peers, sender, copy_results(image), SETTINGS, keep_s=1e-6) as kept:
        kept.start()
        end = time.monotonic() + 60
        while store.find("work item", "1.2.1") is not None:
            assert time.monotonic() < end
            removed.wait(0.01)
        while sender.find(job.id, "pacs") is not None:
            assert time.monotonic() < end
            removed.wait(0.01)
    assert not store.folder(job).exists()


def test_a_claim_that_comes_too_late_is_lost(ups, store, sender, image):
    ups.schedule(make_work_item("1.2.1", [image]), [image])
    with Performing(ups, store, sender, copy_results(image)) as performing:
        assert performing.performer._find()
        ups.change("1.2.1", {
            "00081195": {"vr": "UI", "Value": ["1.9"]},
            "00741000": {"vr": "CS", "Value": ["IN PROGRESS"]},
        })  # fmt: skip
        assert [job.state for job in performing.run()] == ["lost"]
    assert ups.state("1.2.1") == "IN PROGRESS"


def test_lost_answers_to_claim_and_completion_change_nothing(ups, store, sender, image):
    ups.schedule(make_work_item("1.2.1", [image]), [image])
    ups.lose_next = 1
    with Performing(ups, store, sender, copy_results(image)) as performing:
        states = performing.run(until=("stored",))
        assert [job.state for job in states][:2] == ["claiming", "claimed"]
        ups.lose_next = 1
        assert performing.run()[-1].state == "completed"
    assert (ups.claims["1.2.1"], ups.completions["1.2.1"]) == (1, 1)


def test_a_fault_of_the_image_ends_the_item_with_its_reason(ups, store, sender, archive, image):
    def refuse(item, inputs, outputs, report):
        raise FormatError("this is no ultrasound.")

    for uid, work in (("1.2.1", refuse), ("1.2.2", copy_results(image))):
        item = make_work_item(uid, [image])
        if work is not refuse:
            item.InputInformationSequence[0].SeriesInstanceUID = "1.2.3.4"
        ups.schedule(item, [image])
        with Performing(ups, store, sender, work) as performing:
            assert performing.run()[-1].state == "failed"
        assert ups.state(uid) == "CANCELED"
        progress = ups.item(uid).ProcedureStepProgressInformationSequence[0]
        assert progress.ProcedureStepDiscontinuationReasonCodeSequence[0].CodeValue == "110501"
        assert progress.ReasonForCancellation
    assert not archive.kept
    assert "no ultrasound" in store.find("work item", "1.2.1").reason
    assert "another series" in store.find("work item", "1.2.2").reason


def test_a_request_to_cancel_ends_the_work_at_once(ups, store, sender, archive, image):
    ups.schedule(make_work_item("1.2.1", [image]), [image])
    began, released = threading.Event(), threading.Event()
    ended = threading.Event()

    def work(item, inputs, outputs, report):
        began.set()
        assert released.wait(60)  # a network that takes long, and looks at nothing
        copy_results(image)(item, inputs, outputs, lambda part: None)

    def note(job):
        if job.state in ENDED:
            ended.set()

    peers = Peers(WorklistService(ups.url), WebDestination("images", ups.url))
    with PerformerService(store, peers, sender, work, SETTINGS, on_step=note) as service:
        service.start()
        assert began.wait(60)
        assert service.events.is_listening.wait(60)
        end = time.monotonic() + 60
        while not ups.has_channel("BEDSIDE"):
            assert time.monotonic() < end
            time.sleep(0.01)
        assert ups.request_cancel("1.2.1") == 202
        assert ups.wait_until(["1.2.1"], "CANCELED")
        released.set()
        assert ended.wait(60)
    assert store.find("work item", "1.2.1").state == "canceled"
    assert not archive.kept
    assert ups.completions["1.2.1"] == 0
    reason = ups.item("1.2.1").ProcedureStepProgressInformationSequence[0]
    assert reason.ProcedureStepDiscontinuationReasonCodeSequence[0].CodeValue == "110513"


def test_work_that_a_stop_of_the_server_ends_is_done_after_the_next_start(
    ups, store, sender, image
):
    ups.schedule(make_work_item("1.2.1", [image]), [image])
    works = iter([CancelledError("the work was cancelled."), None])

    def work(item, inputs, outputs, report):
        if (error := next(works)) is not None:
            raise error
        copy_results(image)(item, inputs, outputs, report)

    with Performing(ups, store, sender, work) as performing:
        states = [job.state for job in performing.run()]
    assert states[:3] == ["claimed", "claimed", "segmented"]
    assert states[-1] == "completed"


def test_an_item_that_its_owner_took_back_is_not_completed(ups, store, sender, archive, image):
    ups.schedule(make_work_item("1.2.1", [image]), [image])

    def work(item, inputs, outputs, report):
        with ups.lock:
            ups.items["1.2.1"]["00741000"]["Value"] = ["CANCELED"]
        copy_results(image)(item, inputs, outputs, report)

    with Performing(ups, store, sender, work) as performing:
        last = performing.run()[-1]
    assert last.state == "failed"
    assert "its state is CANCELED" in last.reason
    assert ups.completions["1.2.1"] == 0


def test_a_performer_goes_on_with_what_a_killed_one_had(ups, sender, archive, image, tmp_path):
    ups.schedule(make_work_item("1.2.1", [image]), [image])

    def die(item, inputs, outputs, report):
        raise KeyboardInterrupt  # stands for the end of the process: nothing is handled

    # The claim is given back by the system when the process has ended, here by closing the store.
    with (
        JobStore(tmp_path / "other") as first,
        Performing(ups, first, sender, die) as performing,
        pytest.raises(KeyboardInterrupt),
    ):
        performing.run()
    assert ups.state("1.2.1") == "IN PROGRESS"
    with (
        JobStore(tmp_path / "other") as second,
        Performing(ups, second, sender, copy_results(image)) as performing,
    ):
        assert performing.run()[-1].state == "completed"
    assert (ups.claims["1.2.1"], ups.completions["1.2.1"]) == (1, 1)


def test_work_that_ends_every_process_is_given_up(ups, sender, image, tmp_path):
    ups.schedule(make_work_item("1.2.1", [image]), [image])

    def die(item, inputs, outputs, report):
        raise KeyboardInterrupt

    states = []
    for _ in range(4):
        with (
            JobStore(tmp_path / "other") as store,
            Performing(ups, store, sender, die) as performing,
            suppress(KeyboardInterrupt),
        ):
            states = performing.run()
    assert states[-1].state == "failed"
    assert ups.state("1.2.1") == "CANCELED"


@pytest.mark.parametrize(
    ("transaction_in", "bodies"), [("query", "object"), ("key", "list"), ("body", "object")]
)
def test_servers_that_read_requests_in_their_own_way(image, transaction_in, bodies):
    with UpsServer(transaction_in=transaction_in, bodies=bodies) as ups:
        ups.schedule(make_work_item("1.2.1", [image]), [image])
        service = WorklistService(ups.url, transaction_in=transaction_in, bodies=bodies)
        worklist = WebWorklist(service)
        worklist.change_state("1.2.1", "IN PROGRESS", "1.5")
        worklist.update("1.2.1", make_progress(0.5), "1.5")
        with pytest.raises(ConflictError):
            worklist.update("1.2.1", make_progress(0.6), "1.6")
        progress = worklist.retrieve("1.2.1").ProcedureStepProgressInformationSequence[0]
        assert progress.ProcedureStepProgress == 50
        worklist.close()
    for settings in ({"transaction_in": "header"}, {"bodies": "xml"}):
        with pytest.raises(SpecError):
            WorklistService("https://pacs", **settings)


def test_a_worklist_keeps_its_rules(ups, image):
    ups.schedule(make_work_item("1.2.1", [image]), [image])
    worklist = WebWorklist(WorklistService(ups.url))
    with pytest.raises(ConflictError):
        worklist.change_state("1.2.1", "COMPLETED", "1.5")
    worklist.change_state("1.2.1", "IN PROGRESS", "1.5")
    for key in ("1.5", "1.6"):
        with pytest.raises(ConflictError):
            worklist.change_state("1.2.1", "IN PROGRESS", key)
        with pytest.raises(ConflictError):  # without results
            worklist.change_state("1.2.1", "COMPLETED", key)
    with pytest.raises(ConflictError):
        worklist.update("1.2.1", make_work_item("1", [image]), "1.6")
    with pytest.raises(ConflictError):
        worklist.retrieve("1.2.9")
    assert "TransactionUID" not in worklist.retrieve("1.2.1")
    assert worklist.search(10) == []
    worklist.close()
    away = WebWorklist(WorklistService("http://127.0.0.1:9/dicom-web"))
    with pytest.raises(PeerError):
        away.search(1)
    away.close()
