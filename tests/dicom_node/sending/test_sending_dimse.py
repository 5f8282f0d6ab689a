"""C-STORE to an archive that answers, fails, breaks off, is down, or never ends."""

import logging
import socket
import threading
import time
from contextlib import ExitStack

import pytest
from pydicom import dcmread
from pynetdicom import AE, build_context, evt

from archive_for_tests import Archive, is_same_object
from bedside.dicom_node.sending.delivery import State
from bedside.dicom_node.sending.destination import DicomDestination, RetryPolicy
from bedside.dicom_node.sending.dimse import COMMITMENT, report_handler
from bedside.dicom_node.sending.sender import Sender
from bedside.errors import UsageError
from ports_for_tests import find_port

# pynetdicom drops the socket of a connection that is refused without closing it.
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"
)
QUICK = RetryPolicy(first_s=0.01, longest_s=0.02, max_attempts=3)


def peer(archive_or_port, name="pacs", **settings):
    port = getattr(archive_or_port, "port", archive_or_port)
    settings = {"retry": QUICK, "deadline_s": 30.0} | settings
    return DicomDestination(name, "127.0.0.1", port, "ARCHIVE", **settings)


def run(sender, delivery, until=(State.CONFIRMED, State.FAILED)):
    """Take steps until a delivery has ended; return its states."""
    states, end = [], time.monotonic() + 60
    while not states or states[-1].state not in until:
        assert time.monotonic() < end, states
        step = sender.step(delivery.destination, wait_s=1)
        if step is not None:
            states.append(step)
    return states


@pytest.mark.parametrize("confirm", ["find", "commitment"])
def test_files_arrive_as_they_are_and_are_confirmed(results, store, confirm):
    with Archive() as archive:
        sender = Sender(store, [peer(archive, confirm=confirm)])
        states = run(sender, sender.order("job", results, "pacs"))
        assert [step.state for step in states] == [State.SENT, State.CONFIRMED]
        for path in results:
            uid = dcmread(path).SOPInstanceUID
            assert archive.received[uid] == 1
            assert is_same_object(path, archive.kept[uid])
            assert archive.kept[uid][-1000:] == path.read_bytes()[-1000:]
        again = sender.order("job", results, "pacs")
        assert again.state is State.CONFIRMED
        sender.close()


def test_a_peer_that_takes_the_default_syntax_only_gets_equal_objects(results, store):
    syntax = "1.2.840.10008.1.2"
    contexts = [build_context(dcmread(path).SOPClassUID, syntax) for path in results]
    with Archive(contexts=contexts) as archive:
        sender = Sender(store, [peer(archive)])
        assert run(sender, sender.order("job", results, "pacs"))[-1].state is State.CONFIRMED
        for path in results:
            assert is_same_object(path, archive.kept[dcmread(path).SOPInstanceUID])


def test_nobody_is_asked_where_nothing_is_confirmed(results, store):
    with Archive() as archive:
        sender = Sender(store, [peer(archive, confirm="none")])
        assert run(sender, sender.order("job", results, "pacs"), [State.SENT])
        assert sender.step("pacs") is None
        assert sender.find("job", "pacs").state is State.SENT


def test_warnings_are_told_and_failures_end_with_their_reason(results, store):
    with Archive(statuses=[0xB000, 0xA700, 0, 0xC001]) as archive:
        sender = Sender(store, [peer(archive)])
        first = run(sender, sender.order("a", results, "pacs"))
        assert [step.state for step in first] == [State.WAITING, State.SENT, State.CONFIRMED]
        assert first[0].why == "out of resources (A700)"
        assert first[-1].warnings == ("it changed some of its elements (B000)",)
        assert sorted(archive.received.values()) == [1, 2]  # the one that was stored: once
        last = run(sender, sender.order("b", results, "pacs"))[-1]
        assert (last.state, last.why) == (State.FAILED, "not understood (C001)")
        assert store.find("delivery to pacs", "b").reason == last.why
        assert sender.retry("b", "pacs").state is State.WAITING
        assert run(sender, sender.find("b", "pacs"))[-1].state is State.CONFIRMED


def test_a_class_that_is_not_accepted_is_refused_by_name(results, store):
    contexts = [build_context(dcmread(results[1]).SOPClassUID)]
    with Archive(contexts=contexts) as archive:
        sender = Sender(store, [peer(archive)])
        last = run(sender, sender.order("job", results, "pacs"))[-1]
        assert (last.state, last.why) == (State.FAILED, "its SOP class is not accepted")


def test_a_lost_answer_is_asked_for_and_nothing_is_sent_twice(results, store):
    with Archive(lose=1) as archive:
        sender = Sender(store, [peer(archive)])
        states = run(sender, sender.order("job", results[:1], "pacs"))
        assert [step.state for step in states] == [State.SENDING, State.CONFIRMED]
        assert set(archive.received.values()) == {1}


def test_what_is_not_there_is_asked_for_again(results, store):
    with Archive(hide=2) as archive:
        sender = Sender(store, [peer(archive)])
        states = run(sender, sender.order("job", results[:1], "pacs"))
        assert [step.state for step in states] == [State.SENT] * 3 + [State.CONFIRMED]
        assert states[1].why == "C-FIND: absent"
        assert set(archive.received.values()) == {1}


def test_a_report_of_commitment_may_come_on_an_association_of_its_own(results, store):
    port, arrived = find_port(), threading.Event()
    with Archive(report="later") as archive:
        settings = {"confirm": "commitment", "report_wait_s": 0.01}
        sender = Sender(store, [peer(archive, **settings)])
        node = AE(ae_title="BEDSIDE")
        node.add_supported_context(COMMITMENT, scu_role=False, scp_role=True)

        def receive(*report):
            sender.receive_report(*report)
            arrived.set()

        server = node.start_server(
            ("127.0.0.1", port), block=False,
            evt_handlers=[(evt.EVT_N_EVENT_REPORT, report_handler(receive))],
        )  # fmt: skip
        delivery = sender.order("job", results, "pacs")
        sender.step("pacs")
        assert sender.step("pacs").state is State.SENT  # asked; the report is due later
        assert sender.step("pacs") is None
        archive.send_reports(port)
        assert arrived.wait(30)
        assert sender.find(delivery.key, "pacs").state is State.CONFIRMED
        server.shutdown()


def test_a_destination_that_is_down_keeps_no_other_waiting(results, store):
    port, changed = find_port(), threading.Condition()
    seen = []

    def note(delivery):
        with changed:
            seen.append(delivery)
            changed.notify_all()

    with Archive() as archive, ExitStack() as stack:
        sender = Sender(store, [peer(archive), peer(port, "down")], on_change=note)
        stack.enter_context(sender)
        for name in ("down", "pacs"):
            sender.order("job", results, name)
        sender.start()

        def is_done(name):
            return any(d.destination == name and d.state is State.CONFIRMED for d in seen)

        with changed:
            assert changed.wait_for(lambda: is_done("pacs"), 60)
            assert changed.wait_for(lambda: any(d.destination == "down" for d in seen), 60)
            down = [delivery for delivery in seen if delivery.destination == "down"]
            assert {(step.state, step.attempts) for step in down} == {(State.WAITING, 0)}
            assert "cannot be reached" in down[0].why
        with Archive(port=port), changed:
            assert changed.wait_for(lambda: is_done("down"), 60)


@pytest.mark.parametrize("behaviour", ["silent", "drip"])
def test_a_peer_that_never_ends_is_left_at_the_deadline(results, store, behaviour):
    listener = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def misbehave():
        while not stop.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                while behaviour == "drip" and not stop.wait(0.05):
                    try:
                        connection.sendall(b"\x02" if not stop.is_set() else b"")
                    except OSError:
                        break
                connection.settimeout(30)
                try:
                    while behaviour == "silent" and connection.recv(4096):
                        pass
                except OSError:
                    pass

    thread = threading.Thread(target=misbehave)
    thread.start()
    port = listener.getsockname()[1]
    sender = Sender(store, [peer(port, deadline_s=0.5, connect_s=0.5)])
    sender.order("job", results, "pacs")
    begin = time.monotonic()
    step = sender.step("pacs")
    assert time.monotonic() - begin < 30
    assert (step.state, step.attempts) == (State.WAITING, 0)
    stop.set()
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(60)
    assert not thread.is_alive()


def test_a_file_that_is_gone_and_a_name_that_is_unknown_are_said(results, store, tmp_path):
    with Archive() as archive:
        sender = Sender(store, [peer(archive)])
        sender.order("job", [tmp_path / "gone.dcm"], "pacs")
        step = sender.step("pacs")
        assert step.state is State.FAILED
        assert "gone.dcm cannot be sent" in step.why
        with pytest.raises(UsageError, match="there is: pacs"):
            sender.order("job", results, "nowhere")
        with pytest.raises(UsageError, match="same name"):
            Sender(store, [peer(archive), peer(archive)])


def test_logs_hold_no_identifier(results, store, caplog):
    caplog.set_level(logging.DEBUG)
    with Archive() as archive:
        sender = Sender(store, [peer(archive, calling_ae_title="BEDSIDE")])
        run(sender, sender.order("job", results, "pacs"))
    dataset = dcmread(results[0])
    text = caplog.text
    assert str(dataset.PatientName) not in text
    assert str(dataset.StudyInstanceUID) not in text
