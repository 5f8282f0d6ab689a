"""Work items, events and images as they come over the network: whole, damaged, or hostile."""

import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import Dataset

from bedside.dicom_node.ups.cancellations import Cancellations
from bedside.dicom_node.ups.events import read_cancelled
from bedside.dicom_node.ups.inputs import PartWriter
from bedside.dicom_node.ups.ups_rs import WorklistService, find_channel
from bedside.dicom_node.ups.work_item import make_discontinuation, make_progress, read_work_item
from bedside.errors import CancelledError, FormatError, SpecError
from ups_for_tests import make_work_item

MULTIPART = {"Content-Type": 'multipart/related; type="application/dicom"; boundary="b 1"'}


def test_a_work_item_is_read_with_its_inputs(image):
    item = read_work_item(make_work_item("1.2.3", [image]))
    assert (item.uid, item.state, item.codes) == ("1.2.3", "SCHEDULED", ("1^99TEST",))
    assert item.is_ready
    assert item.label == "Segment"
    assert len(item.inputs) == 1


@pytest.mark.parametrize("uid", ["", "../../etc", "1.2/3", "1" * 65, "1.2?x=y", "1.2\n"])
def test_a_uid_that_would_change_an_address_is_refused(image, uid):
    for place in ("item", "series"):
        item = make_work_item("1.2.3", [image])
        target = item if place == "item" else item.InputInformationSequence[0]
        keyword = "SOPInstanceUID" if place == "item" else "SeriesInstanceUID"
        target.add_new(keyword, "UT", uid)
        with pytest.raises(FormatError):
            read_work_item(item)


def test_a_work_item_without_state_is_refused():
    item = Dataset()
    item.SOPInstanceUID = "1.2.3"
    with pytest.raises(FormatError, match="Procedure Step State"):
        read_work_item(item)


def event(kind, uid="1.2", state=None):
    found = {"00001000": {"Value": [uid]}, "00001002": {"Value": [kind]}}
    if state:
        found["00741000"] = {"Value": [state]}
    return found


@pytest.mark.parametrize(
    ("message", "uid"),
    [
        (event(2), "1.2"),
        ([event(2)], "1.2"),
        (event(1, state="CANCELED"), "1.2"),
        (event(1, state="IN PROGRESS"), None),
        (event(3), None),
        ({}, None),
        ([], None),
        (7, None),
        (None, None),
        ({"00001000": 3}, None),
    ],
)
def test_an_event_that_cancels_is_recognized(message, uid):
    assert read_cancelled(json.dumps(message)) == uid


@given(st.one_of(st.text(max_size=50), st.binary(max_size=50)))
def test_what_is_no_event_is_none(message):
    assert read_cancelled(message) is None


@pytest.mark.parametrize(
    "stated",
    ["", "ws://evil/subscribers/A", "https://pacs/x", "//evil", "ws://pacs/x", "[["],
)
def test_a_channel_on_another_host_is_not_opened(stated):
    if stated == "[[":
        stated = "nonsense"
    expected = "wss://pacs:8443/web/subscribers/A"
    assert find_channel("https://pacs:8443/web/", "A", stated) == expected
    assert find_channel("http://pacs/web", "A", "ws://pacs:99/x") == "ws://pacs:99/x"


def test_an_address_of_a_worklist_is_one():
    for url in ("ftp://x", "https://", "x"):
        with pytest.raises(SpecError):
            WorklistService(url)


@given(
    st.lists(st.binary(max_size=60), min_size=1, max_size=4),
    st.lists(st.integers(1, 40), min_size=1, max_size=30),
)
def test_parts_are_written_however_they_are_cut(tmp_path_factory, bodies, cuts):
    folder = tmp_path_factory.mktemp("parts")
    data = b"".join(b"--b 1\r\nContent-Type: application/dicom\r\n\r\n" + body + b"\r\n"
                    for body in bodies) + b"--b 1--\r\n"  # fmt: skip
    writer, place, turn = PartWriter(folder), 0, 0
    while place < len(data):
        size = cuts[turn % len(cuts)]
        writer.receive(MULTIPART, data[place : place + size])
        place, turn = place + size, turn + 1
    writer.end()
    assert [path.read_bytes() for path in writer.paths] == bodies


@pytest.mark.parametrize("headers", [{}, {"Content-Type": "application/dicom"}])
def test_images_come_in_parts(tmp_path, headers):
    with pytest.raises(FormatError, match="multipart"):
        PartWriter(tmp_path).receive(headers, b"DICM")


def test_a_part_without_end_is_refused(tmp_path):
    writer = PartWriter(tmp_path)
    writer.receive(MULTIPART, b"--b 1\r\n\r\nhalf of it")
    with pytest.raises(FormatError, match="middle"):
        writer.end()
    writer.close()
    writer = PartWriter(tmp_path / "other")
    with pytest.raises(FormatError, match="damaged"):
        writer.receive(MULTIPART, b"no boundary at all")


def test_a_request_to_cancel_comes_in_time_or_too_late():
    cancellations = Cancellations()
    cancellations.check("1.2")
    assert cancellations.request("1.2")
    assert not cancellations.request("1.2")
    for refuse in (cancellations.check, cancellations.commit):
        with pytest.raises(CancelledError):
            refuse("1.2")
    cancellations.forget("1.2")
    cancellations.commit("1.2")
    assert not cancellations.request("1.2")
    cancellations.check("1.2")


def test_messages_fit_their_elements():
    progress = make_progress(1.7, "x" * 2000).ProcedureStepProgressInformationSequence[0]
    assert progress.ProcedureStepProgress == 100
    assert len(progress.ProcedureStepProgressDescription) == 1024
    reason = make_discontinuation(("1", "DCM", "why"), "text", datetime(2026, 1, 2, tzinfo=UTC))
    item = reason.ProcedureStepProgressInformationSequence[0]
    assert item.ProcedureStepCancellationDateTime == "20260102000000.000000+0000"
