"""A sender that is killed at the worst moments, and one that goes on: each file arrives once."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from archive_for_tests import Archive
from bedside.dicom_node.sending.delivery import State
from bedside.dicom_node.sending.destination import DicomDestination, RetryPolicy
from bedside.dicom_node.sending.sender import Sender
from bedside.service.jobs import JobStore

PROGRAM = """
import sys
from pathlib import Path
from bedside.dicom_node.sending.destination import DicomDestination
from bedside.dicom_node.sending.sender import Sender
from bedside.service.jobs import JobStore

state, port, *files = sys.argv[1:]
with JobStore(Path(state)) as store:
    sender = Sender(store, [DicomDestination("pacs", "127.0.0.1", int(port), "ARCHIVE")])
    sender.order("job", [Path(file) for file in files], "pacs")
    sender.start()
    sys.stdin.read()
"""


@pytest.mark.parametrize("moment", [0, 1, 3])
def test_each_file_arrives_once_whenever_the_sender_is_killed(results, tmp_path, moment):
    # Two files are stored and two questions answered: it is killed before one of these answers.
    answers, process, killed, done = 0, None, threading.Event(), threading.Event()

    def before_answer(kind):
        nonlocal answers
        if answers == moment:
            os.kill(process.pid, signal.SIGKILL)
            killed.set()
        answers += 1

    def note(step):
        if step.state in (State.CONFIRMED, State.FAILED):
            done.set()

    with Archive(before_answer=before_answer) as archive:
        command = [sys.executable, "-c", PROGRAM, str(tmp_path), str(archive.port), *results]
        process = subprocess.Popen(command, stdin=subprocess.PIPE)
        assert killed.wait(120)
        process.wait()
        process.stdin.close()
        retry = RetryPolicy(first_s=0.01, longest_s=0.02)
        peer = DicomDestination("pacs", "127.0.0.1", archive.port, "ARCHIVE", retry=retry)
        with JobStore(tmp_path) as store:
            with Sender(store, [peer], on_change=note) as sender:
                sender.order("job", results, "pacs")
                sender.start()
                assert done.wait(120)
            assert sender.find("job", "pacs").state is State.CONFIRMED
        assert len(archive.kept) == 2
        assert set(archive.received.values()) == {1}
