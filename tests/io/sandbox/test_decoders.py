"""Decoders that are forked: the same answers, each in a process of its own, and none left over."""

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from bedside.errors import ClosedError, FormatError, LimitError
from bedside.io.sandbox.decoders import Decoders
from bedside.io.sandbox.limits import Limits
from bedside.io.sandbox.parent import find_untrusted, open_untrusted
from bedside.io.source import open_source
from igtl_makers import wait_until
from makers import make_dicom, make_fan, write_dicom, write_picture

PATIENT = Limits(256, 500)


@pytest.fixture(scope="module")
def decoders():
    decoders = Decoders()
    decoders.start()
    yield decoders
    decoders.close()


@pytest.fixture
def limits(decoders):
    return replace(PATIENT, start=decoders.run)


def read(source):
    return np.stack([source.sequence.decode(index) for index in range(len(source.sequence))])


def test_files_are_read_as_in_this_process(limits, tmp_path):
    path = write_dicom(make_dicom(make_fan(3)), tmp_path / "a.dcm")
    assert np.array_equal(read(open_untrusted(path, limits=limits)), read(open_source(path)))
    write_picture(make_fan(1)[0], tmp_path / "b.png")
    assert len(find_untrusted(tmp_path, limits=limits).paths) == 2


def test_errors_are_those_of_the_reader(limits, tmp_path):
    (tmp_path / "words.txt").write_text("hello")
    with pytest.raises(FormatError, match=r"words\.txt is no image: it begins with b'hello'"):
        open_untrusted(tmp_path / "words.txt", limits=limits)


def test_each_of_many_threads_gets_its_own_image(limits, tmp_path):
    images = [make_fan(1, seed=seed)[0] for seed in range(8)]
    found = {}

    def work(number):
        path = write_picture(images[number], tmp_path / f"{number}.png")
        found[number] = read(open_untrusted(path, limits=limits))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(found[n].squeeze(), images[n].squeeze()) for n in range(8))


def test_a_child_finds_all_modules_imported_by_the_process_that_forks(tmp_path):
    # Each module that is missing there is imported anew for every image: numpy.ma took 20 ms.
    write_dicom(make_dicom(make_fan(3)), tmp_path / "a.dcm")
    write_picture(make_fan(1)[0], tmp_path / "a.png")
    program = (
        "import sys\n"
        "from bedside.io.sandbox import child, fork_server\n"
        "child.import_readers(*fork_server.FORMATS)\n"
        "fork_server._import_codecs()\n"
        "before = set(sys.modules)\n"
        "for path in sys.argv[2:]:\n"
        "    child.answer_request({'folder': sys.argv[1], 'path': path, 'files': [], 'select': {},"
        " 'dicom': {}, 'memory_bytes': 2**31, 'deadline_s': 60})\n"
        "print(*set(sys.modules) - before)\n"
    )
    paths = [str(tmp_path / name) for name in ("a.dcm", "a.png")]
    ran = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path), *paths],
        capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert "error" not in json.loads((tmp_path / "answer.json").read_text())
    assert ran.stdout.split() == []


def test_decoders_go_behind_the_process_that_serves(decoders, limits, tmp_path):
    read(open_untrusted(write_picture(make_fan(1)[0], tmp_path / "a.png"), limits=limits))
    niceness = os.getpriority(os.PRIO_PROCESS, decoders.pid)
    assert niceness > os.getpriority(os.PRIO_PROCESS, 0)


def test_memory_is_limited_in_a_fork_too(limits, tmp_path):
    path = write_dicom(make_dicom(make_fan(40, 512, 512)), tmp_path / "large.dcm")
    with pytest.raises(LimitError, match="more than 8 MiB"):
        open_untrusted(path, limits=replace(limits, memory_mb=8))


def test_a_decoder_is_ended_at_its_deadline(decoders, tmp_path):
    path = write_dicom(make_dicom(make_fan(40, 512, 512)), tmp_path / "large.dcm")
    with pytest.raises(LimitError, match="more than 1e-05 s"):  # no process begins in that time
        open_untrusted(path, limits=Limits(256, 1e-5, start=decoders.run))
    wait_until(lambda: not _children(decoders.pid))


def test_the_process_that_forks_is_replaced_when_it_dies(tmp_path):
    decoders = Decoders()
    try:
        limits = replace(PATIENT, start=decoders.run)
        path = write_picture(make_fan(1)[0], tmp_path / "a.png")
        open_untrusted(path, limits=limits)
        before = decoders.pid
        os.kill(before, signal.SIGKILL)
        assert read(open_untrusted(path, limits=limits)).any()
        assert decoders.pid != before
    finally:
        decoders.close()
    with pytest.raises(ClosedError):
        open_untrusted(path, limits=limits)


def _children(pid):
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    except OSError:
        return []
    return [int(each) for each in text.split()]
