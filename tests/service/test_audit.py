"""The audit log: every change to a line between others shows, and it outlives its process."""

import errno
import json
import os
import re
import threading
import time

import pytest

from bedside.cli.main import main
from bedside.errors import FormatError, OutputError
from bedside.service import audit
from bedside.service.audit import AuditLog, verify_audit
from igtl_makers import wait_until


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "audit.jsonl"
    with AuditLog(path) as log:
        for number in range(5):
            log.add("request", status=200 + number)
    return path


def test_a_log_goes_on_where_it_ended(path):
    with AuditLog(path) as log:
        log.add("stopped")
    assert verify_audit(path).lines == 6
    assert [json.loads(line)["n"] for line in path.read_text().splitlines()] == list(range(1, 7))
    assert path.stat().st_mode & 0o077 == 0


def test_lines_are_put_on_the_disk_together_while_the_log_is_open(tmp_path, monkeypatch):
    synced, sync = [], os.fsync

    def note(number):
        synced.append(os.fstat(number).st_size)
        sync(number)

    monkeypatch.setattr(audit, "SYNC_S", 0.05)
    monkeypatch.setattr(os, "fsync", note)
    path = tmp_path / "audit.jsonl"
    with AuditLog(path) as log:
        for number in range(200):
            log.add("request", status=number)
        wait_until(lambda: synced and synced[-1] == path.stat().st_size)
        assert len(synced) < 100
        count = len(synced)
        time.sleep(0.2)
        assert len(synced) == count  # nothing is new
    assert len(synced) == count


def test_a_disk_that_fails_is_told(tmp_path, monkeypatch):
    def fail(_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(audit, "SYNC_S", 0.05)
    with AuditLog(tmp_path / "audit.jsonl") as log:
        assert log.fault is None
        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", fail)
            log.add("request", status=200)
            wait_until(lambda: log.fault is not None)
    assert isinstance(log.fault, OutputError)


CHANGES = {
    "a value": lambda lines: [*lines[:2], lines[2].replace("202", "999"), *lines[3:]],
    "a line less": lambda lines: [*lines[:2], *lines[3:]],
    "the first line less": lambda lines: lines[1:],
    "two lines the other way round": lambda lines: [lines[0], lines[2], lines[1], *lines[3:]],
    "a line twice": lambda lines: [*lines[:2], lines[1], *lines[2:]],
    "a line of words": lambda lines: [*lines[:2], "hello\n", *lines[2:]],
    "a key twice": lambda lines: [*lines[:2], lines[2].replace("{", '{"status":1,'), *lines[3:]],
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_change_is_found_with_its_line(path, change):
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(change(lines)))
    with pytest.raises(FormatError, match=r"line [1-4] does not follow"):
        verify_audit(path)


def test_lines_missing_at_the_end_show_against_a_hash_kept_elsewhere(path, capsys):
    last = verify_audit(path).last_hash
    assert main(["audit", "verify", str(path), "--expect", last]) == 0
    assert "5 lines, unchanged" in capsys.readouterr().out
    with AuditLog(path) as log:
        log.add("later")
    assert main(["audit", "verify", str(path), "--expect", last]) == 0
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:4]))
    assert main(["audit", "verify", str(path)]) == 0
    assert main(["audit", "verify", str(path), "--expect", last]) == 3


def test_a_line_that_was_cut_off_is_named_by_the_next(path):
    with path.open("a") as file:
        file.write('{"n":6,"eve')
    with pytest.raises(FormatError, match="not whole"):
        verify_audit(path)
    with AuditLog(path) as log:
        log.add("started")
    assert verify_audit(path).lines == 7
    path.write_text(path.read_text().replace('"eve\n', '"odd\n'))
    with pytest.raises(FormatError, match="line 6 does not follow"):
        verify_audit(path)


def test_threads_write_one_chain_and_two_servers_do_not(path):
    with AuditLog(path) as log:
        threads = [
            threading.Thread(target=lambda: [log.add("request") for _ in range(20)])
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with pytest.raises(OutputError, match="another server"):
            AuditLog(path)
    assert verify_audit(path).lines == 165


def test_another_file_is_not_written_to(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("hello\n")
    with pytest.raises(FormatError, match=re.escape("is no audit log")):
        AuditLog(path)
    assert path.read_text() == "hello\n"
