"""Series are gathered from images, across restarts, and late images begin another round."""

import threading
from dataclasses import replace

import pytest
from pydicom import Dataset, FileMetaDataset, dcmwrite
from pydicom.filebase import DicomBytesIO
from pydicom.uid import ExplicitVRLittleEndian

from bedside.dicom_node.config import DicomSettings, Sender
from bedside.dicom_node.header import ImageHeader
from bedside.dicom_node.intake import Arrival, Intake, Origin
from bedside.dicom_node.series import COMPLETE, FAILED, KIND, RECEIVED, SEGMENTED, Series
from bedside.service.jobs import JobStore
from dicom_node_for_tests import wait_for

ORIGIN = Origin(1, "MODALITY", "BEDSIDE")
SLICE = ImageHeader("1.2", "1.2.3", "1.1", "1.1.1", modality="MR")
FILM = replace(SLICE, frames=20, modality="US")


@pytest.fixture
def store(tmp_path):
    with JobStore(tmp_path / "state") as opened:
        yield opened


@pytest.fixture
def open_intake(store, tmp_path):
    """Open intakes on one store, each after the end of the one before."""
    opened = []

    def close():
        while opened:
            opened.pop().close()

    def run(*, count=lambda sender, series: None, senders=(), **settings):
        close()
        settings = DicomSettings(**{"settle_s": 3600, "sender": senders, **settings})
        intake = Intake(store, settings, count=count)
        intake.start()
        opened.append(intake)
        return intake

    yield run
    close()


@pytest.fixture
def give(tmp_path):
    """Give images to an intake; each has a file with a content of its own."""

    def run(intake, header, number, *, content=None, origin=ORIGIN):
        header = replace(header, sop_instance_uid=f"1.2.3.{number}")
        path = tmp_path / f"{number}-{origin.association}.part"
        path.write_bytes(_file(header, content if content is not None else str(number)))
        try:
            return intake.receive(header, path, origin)
        finally:
            path.unlink()

    return run


def _file(header, content):
    """A file as the server writes it, with as much of a header as is read again."""
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = header.sop_class_uid, header.sop_instance_uid
    dataset.StudyInstanceUID = header.study_instance_uid
    dataset.SeriesInstanceUID = header.series_instance_uid
    dataset.NumberOfFrames = header.frames
    if header.acquisition_images:
        dataset.ImagesInAcquisition = header.acquisition_images
    dataset.AcquisitionNumber = header.acquisition
    dataset.PatientComments = content
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file = DicomBytesIO()
    dcmwrite(file, dataset, enforce_file_format=True)
    return file.getvalue()


def rounds(store, *states):
    return [(job.state, Series.from_payload(job.payload)) for job in store.list(KIND, states)][::-1]


def files(store, job):
    return len(list((store.folder(job) / "images").iterdir()))


def test_identical_images_are_ignored_and_different_ones_refused(open_intake, give, store):
    intake = open_intake()
    assert give(intake, SLICE, 1) is Arrival.NEW
    assert give(intake, SLICE, 1) is Arrival.IDENTICAL
    assert give(intake, SLICE, 1, content="other") is Arrival.DIFFERENT
    other_study = replace(SLICE, study_instance_uid="9.9")
    assert give(intake, other_study, 2) is Arrival.OTHER_STUDY
    (job,) = store.list(KIND)
    assert files(store, job) == 1


def test_after_a_restart_images_and_what_is_known_are_there(open_intake, give, store):
    named = replace(SLICE, acquisition_images=3)
    intake = open_intake()
    for number in (1, 2):
        give(intake, named, number)
    intake = open_intake()
    assert give(intake, named, 2) is Arrival.IDENTICAL
    assert give(intake, named, 3) is Arrival.NEW
    assert rounds(store)[0][0] == RECEIVED
    intake.end(1, is_released=True)
    (job,) = wait_for(lambda: store.list(KIND, [COMPLETE]))
    assert job.payload["images"] == 3


def test_a_series_of_two_acquisitions_waits_for_both_while_its_association_goes_on(
    open_intake, give, store
):
    intake = open_intake()
    first, second = (replace(SLICE, acquisition=name, acquisition_images=2) for name in ("1", "2"))
    for number, header in enumerate((first, first, second, second)):
        give(intake, header, number)
        assert rounds(store)[0][0] == RECEIVED
    intake.end(1, is_released=True)
    (job,) = wait_for(lambda: store.list(KIND, [COMPLETE]))
    assert job.reason == "its acquisitions have 4 images"


def test_a_sender_that_counts_more_images_is_waited_for(open_intake, give, store):
    asked = []

    def count(sender, series):
        asked.append((sender.calling_ae, series.series_instance_uid))
        return 3

    sender = Sender("MODALITY", host="127.0.0.1")
    intake = open_intake(count=count, senders=(sender,), settle_s=0.01)
    for number in (1, 2):
        give(intake, SLICE, number)
    intake.end(1, is_released=True)
    wait_for(lambda: asked)
    assert rounds(store)[0][0] == RECEIVED
    give(intake, SLICE, 3)
    intake.end(1, is_released=True)
    (job,) = wait_for(lambda: store.list(KIND, [COMPLETE]))
    assert job.reason == "its sender counts 3 images"
    assert set(asked) == {("MODALITY", "1.1.1")}


def test_a_sender_that_does_not_answer_is_left_alone_for_a_while(open_intake, give, store):
    asked = []
    sender = Sender("MODALITY", host="127.0.0.1")
    intake = open_intake(count=lambda *_: asked.append(1), senders=(sender,), settle_s=0.05)
    for number in range(3):
        series = replace(SLICE, series_instance_uid=f"1.1.{number}")
        give(intake, series, number, origin=replace(ORIGIN, association=number))
        intake.end(number, is_released=True)
    wait_for(lambda: len(store.list(KIND, [COMPLETE])) == 3)
    assert asked == [1]


def test_a_series_whose_sender_has_more_fails_and_goes_on_when_they_come(open_intake, give, store):
    sender = Sender("MODALITY", host="127.0.0.1")
    intake = open_intake(count=lambda *_: 2, senders=(sender,), settle_s=0.01, missing_s=0.01)
    give(intake, SLICE, 1)
    intake.end(1, is_released=True)
    (job,) = wait_for(lambda: store.list(KIND, [FAILED]))
    assert job.reason == "1 of 2 images came; send the series again"

    give(intake, SLICE, 2)
    intake.end(1, is_released=True)
    (job,) = wait_for(lambda: store.list(KIND, [COMPLETE]))
    assert (job.payload["round"], files(store, job)) == (2, 2)


def test_images_that_come_before_segmentation_join_their_series(open_intake, give, store):
    intake = open_intake(settle_s=0.01)
    give(intake, SLICE, 1)
    intake.end(1, is_released=True)
    (first,) = wait_for(lambda: store.list(KIND, [COMPLETE]))
    give(intake, SLICE, 2)
    intake.end(1, is_released=True)
    wait_for(lambda: [s.images for _, s in rounds(store, COMPLETE)] == [2])
    assert [job.id for job in store.list(KIND)] == [first.id]


@pytest.mark.parametrize(("header", "images"), [(SLICE, 3), (FILM, 1)])
def test_late_images_begin_a_round_with_the_slices_before_but_not_the_films(
    open_intake, give, store, header, images
):
    intake = open_intake(settle_s=0.01)
    for number in (1, 2):
        give(intake, header, number)
    intake.end(1, is_released=True)
    wait_for(lambda: store.list(KIND, [COMPLETE]))
    job = store.claim(KIND, [COMPLETE])
    assert give(intake, header, 2) is Arrival.IDENTICAL  # an answer that was lost
    assert give(intake, header, 2, content="other") is Arrival.DIFFERENT
    assert give(intake, header, 3) is Arrival.NEW
    intake.end(1, is_released=True)
    store.move(job, SEGMENTED)
    (late,) = wait_for(lambda: store.list(KIND, [COMPLETE]))
    assert (late.payload["round"], late.payload["earlier"]) == (2, job.id)
    assert (late.payload["images"], files(store, late)) == (images, images)
    assert files(store, job) == 2


def test_a_round_that_was_just_begun_before_a_kill_has_all_slices(open_intake, give, store):
    intake = open_intake(settle_s=0.5)  # a busy machine pauses between two images
    for number in (1, 2):
        give(intake, SLICE, number)
    intake.end(1, is_released=True)
    wait_for(lambda: store.list(KIND, [COMPLETE]))
    job = store.claim(KIND, [COMPLETE])
    intake.close()
    series = replace(Series.from_payload(job.payload), round=2, earlier=job.id, images=0)
    store.add(KIND, series.key, series.to_payload(), state=RECEIVED)  # and there it was killed

    open_intake(settle_s=0.01)
    (late,) = wait_for(lambda: [each for each in store.list(KIND, [COMPLETE]) if each.id != job.id])
    assert files(store, late) == 2


def test_threads_that_send_one_series_lose_nothing(open_intake, give, store):
    intake = open_intake(settle_s=0.05)
    arrivals = []

    def send(user):
        origin = replace(ORIGIN, association=user)
        for number in range(20):
            arrivals.append(give(intake, SLICE, 20 * (user % 2) + number, origin=origin))
        intake.end(user, is_released=True)

    threads = [threading.Thread(target=send, args=(user,)) for user in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (job,) = wait_for(lambda: store.list(KIND, [COMPLETE]))
    assert arrivals == [Arrival.NEW] * 40
    assert files(store, job) == 40


def start_the_machine_anew(monkeypatch):
    monkeypatch.setattr("bedside.dicom_node.intake.find_boot", lambda: "another start")


def test_a_series_whose_machine_went_down_fails_and_can_be_sent_again(
    open_intake, give, store, monkeypatch
):
    give(open_intake(), SLICE, 1)
    start_the_machine_anew(monkeypatch)
    intake = open_intake(settle_s=0.01)
    (job,) = store.list(KIND)
    assert (job.state, "send the series again" in job.reason) == (FAILED, True)
    assert not (store.folder(job) / "images").exists()

    assert give(intake, SLICE, 1) is Arrival.NEW
    intake.end(1, is_released=True)
    again = wait_for(lambda: store.list(KIND, [COMPLETE]))
    assert Series.from_payload(again[0].payload).images == 1


def test_images_that_are_on_disk_one_by_one_outlive_the_machine(
    open_intake, give, store, monkeypatch
):
    give(open_intake(on_disk="image"), SLICE, 1)
    start_the_machine_anew(monkeypatch)
    open_intake(on_disk="image")
    assert [job.state for job in store.list(KIND)] == [RECEIVED]


def test_a_series_is_complete_once_its_images_are_on_disk(open_intake, give, store, monkeypatch):
    synced = []
    monkeypatch.setattr("bedside.dicom_node.gathering.os.fsync", lambda file: synced.append(file))
    intake = open_intake(settle_s=0.01)
    for number in range(3):
        give(intake, SLICE, number)
    assert synced == []
    intake.end(1, is_released=True)
    wait_for(lambda: store.list(KIND, [COMPLETE]))
    assert len(synced) >= 3


def test_a_disk_that_fails_fails_the_series(open_intake, give, store, monkeypatch):
    def fail(_gathering):
        raise OSError(5, "Input/output error")

    intake = open_intake(settle_s=0.01)
    give(intake, SLICE, 1)
    monkeypatch.setattr("bedside.dicom_node.gathering.Gathering.sync", fail)
    intake.end(1, is_released=True)
    (job,) = wait_for(lambda: store.list(KIND, [FAILED]))
    assert "Input/output error" in job.reason
