"""Jobs are there before they are acknowledged, have one owner, and outlive kill -9."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import threading

import pytest

from bedside.errors import ClosedError, FormatError, StaleJobError, UsageError
from bedside.service.jobs import JobStore
from bedside.system.atomic import write_bytes


class Clock:
    """Seconds that pass only when they are told to."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def store(tmp_path, clock):
    with JobStore(tmp_path / "state", clock=clock) as opened:
        yield opened


def test_a_job_is_one_however_often_it_is_added(store):
    first, is_new = store.add("series", "1.2.3", {"model": "camus-4ch"}, state="received")
    again, is_new_again = store.add("series", "1.2.3", {"model": "other"}, state="received")

    assert (is_new, is_new_again) == (True, False)
    assert again == first
    assert dict(again.payload) == {"model": "camus-4ch"}
    assert store.add("http", "1.2.3", {}, state="queued")[1]  # a key is unique within its kind
    assert store.find("series", "1.2.3") == store.get(first.id) == first
    assert store.get("none") is None


def test_a_job_is_claimed_once_and_the_one_due_longest_first(store, clock):
    for n in range(3):
        store.add("http", str(n), {}, state="queued", due=clock.now - n)
    store.add("http", "later", {}, state="queued", due=clock.now + 60)

    keys = [store.claim("http", ["queued"], state="running").key for _ in range(3)]

    assert keys == ["2", "1", "0"]
    assert store.claim("http", ["queued", "running"]) is None
    clock.now += 60
    late = store.claim("http", ["queued"])
    assert (late.key, late.state, late.attempts) == ("later", "queued", 1)


def test_a_change_of_state_ends_the_claim_and_counts_attempts_anew(store, clock):
    store.add("series", "a", {}, state="complete")
    job = store.claim("series", ["complete"])
    job = store.move(job, "complete", reason="the model was not there", due=clock.now + 5)
    assert (job.owner, job.attempts, job.reason) == (None, 1, "the model was not there")
    assert store.claim("series", ["complete"]) is None

    clock.now += 5
    job = store.claim("series", ["complete"])
    assert job.attempts == 2
    job = store.move(job, "segmented", payload={"files": ["a.dcm"]}, keep=True)
    assert (job.attempts, dict(job.payload)) == (0, {"files": ["a.dcm"]})
    assert job.owner is not None
    assert store.claim("series", ["segmented"]) is None


def test_a_job_that_was_tried_comes_behind_those_that_were_not(store, clock):
    for key in ("a", "b"):
        store.add("series", key, {}, state="complete")
    store.move(store.claim("series", ["complete"]), "complete", due=clock.now - 100)

    assert [store.claim("series", ["complete"]).key for _ in "ab"] == ["b", "a"]


def test_a_job_that_is_released_was_not_tried(store):
    store.add("series", "a", {}, state="complete")
    store.release(store.claim("series", ["complete"]))
    again = store.claim("series", ["complete"])

    assert again.attempts == 1
    store.release(again)
    with pytest.raises(StaleJobError):
        store.release(again)


def test_who_is_late_is_told_and_changes_nothing(store):
    job, _ = store.add("http", "a", {}, state="queued")
    running = store.claim("http", ["queued"], state="running")
    store.report(running, 0.25)
    cancelled = store.move(store.get(job.id), "cancelled", reason="asked for")

    with pytest.raises(StaleJobError, match='changed to "cancelled"'):
        store.move(running, "done")
    with pytest.raises(StaleJobError):
        store.report(running, 0.5)
    assert store.get(job.id) == cancelled
    assert cancelled.progress == 0.25

    assert store.remove("http", ["cancelled"], older_s=0) == 1
    with pytest.raises(StaleJobError, match="removed"):
        store.move(cancelled, "queued")


def test_old_jobs_go_with_their_files_and_claimed_ones_stay(store, clock):
    old, _ = store.add("http", "old", {}, state="done")
    write_bytes(store.folder(old) / "mask.dcm", b"mask")
    clock.now += 1
    store.add("http", "claimed", {}, state="claimed")
    claimed = store.claim("http", ["claimed"], state="done")
    clock.now += 60
    new, _ = store.add("http", "new", {}, state="done")
    assert store.remove("http", ["failed"], older_s=50) == 0

    assert store.remove("http", ["done"], older_s=50) == 1
    assert {job.id for job in store.list("http")} == {claimed.id, new.id}
    assert not store.folder(old).exists()


def test_a_folder_that_a_killed_process_did_not_remove_goes_at_the_next_start(tmp_path):
    (tmp_path / "jobs" / "0123").mkdir(parents=True)
    with JobStore(tmp_path) as store:
        job, _ = store.add("http", "a", {}, state="done")
        write_bytes(store.folder(job) / "mask.dcm", b"mask")
    with JobStore(tmp_path) as store:
        assert list((tmp_path / "jobs").iterdir()) == [store.folder(job)]


def test_jobs_are_listed_and_counted(store):
    for n in range(5):
        store.add("http", str(n), {}, state="queued" if n % 2 else "done")
    store.add("series", "x", {}, state="received")

    assert store.count() == {
        ("http", "done"): 3, ("http", "queued"): 2, ("series", "received"): 1,
    }  # fmt: skip
    assert [job.key for job in store.list("http", ["queued"])] == ["3", "1"]
    assert [job.key for job in store.list(limit=2)] == ["x", "4"]
    with pytest.raises(UsageError, match="list of states"):
        store.list("http", "queued")


def test_a_thread_that_waits_for_work_gets_what_is_added(store):
    got = []
    thread = threading.Thread(target=lambda: got.append(store.claim("http", ["queued"], wait_s=60)))
    thread.start()
    job, _ = store.add("http", "a", {}, state="queued")
    thread.join(60)

    assert [each.id for each in got] == [job.id]
    assert store.claim("http", ["queued"], wait_s=0.01) is None


def test_a_thread_that_waits_for_a_job_sees_it_change(store):
    job, _ = store.add("http", "a", {}, state="queued")
    seen = []
    thread = threading.Thread(target=lambda: seen.append(store.wait(job, 60)))
    thread.start()
    store.move(job, "done")
    thread.join(60)

    assert [each.state for each in seen] == ["done"]
    assert store.wait(seen[0], 0.01) == seen[0]


def test_threads_never_claim_the_same_job(store):
    for n in range(40):
        store.add("http", str(n), {}, state="queued")
    done = []

    def work():
        while (job := store.claim("http", ["queued"], state="running")) is not None:
            done.append(store.move(job, "done").key)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert sorted(done, key=int) == [str(n) for n in range(40)]


def test_two_stores_of_a_folder_share_jobs_and_each_gives_back_its_own(tmp_path):
    with JobStore(tmp_path) as ours:
        ours.add("http", "a", {}, state="queued")
        with JobStore(tmp_path) as theirs:
            job = theirs.claim("http", ["queued"])
            assert ours.claim("http", ["queued"]) is None
            assert theirs.get(job.id).owner == job.owner
        again = ours.claim("http", ["queued"])
        assert (again.id, again.attempts) == (job.id, 2)


def test_a_closed_store_says_so_and_leaves_no_owner(tmp_path):
    store = JobStore(tmp_path)
    store.close()
    store.close()
    with pytest.raises(ClosedError):
        store.add("http", "a", {}, state="queued")
    assert list((tmp_path / "owners").iterdir()) == []


@pytest.mark.parametrize("content", [b"no database at all" * 100, None])
def test_a_file_that_is_no_store_is_refused(tmp_path, content):
    path = tmp_path / "jobs.sqlite"
    if content is None:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA user_version = 99")
    else:
        path.write_bytes(content)

    with pytest.raises(FormatError, match=r"jobs\.sqlite"):
        JobStore(tmp_path)
    assert content is None or path.read_bytes() == content


def test_the_files_of_a_store_are_for_its_user_only(tmp_path, store):
    for name in ("", "jobs", "owners"):
        assert (store.path / name).stat().st_mode & 0o077 == 0
    assert (store.path / "jobs.sqlite").stat().st_mode & 0o077 == 0


def _start(code, *arguments):
    """Start Python with a store; it prints lines."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, text=True
    )


_CLAIM = """
import sys, time
from pathlib import Path
from bedside.service.jobs import JobStore
store = JobStore(Path(sys.argv[1]))
print(store.claim("http", ["queued"], state="running").id, flush=True)
time.sleep(600)
"""


def test_what_a_killed_process_had_claimed_is_taken_over_at_once(tmp_path):
    with JobStore(tmp_path) as store:
        job, _ = store.add("http", "a", {}, state="queued")
        with _start(_CLAIM, tmp_path) as child:
            try:
                assert child.stdout.readline().strip() == job.id
                assert store.claim("http", ["queued", "running"]) is None
            finally:
                os.kill(child.pid, signal.SIGKILL)
        taken = store.claim("http", ["queued", "running"], state="running")

    assert (taken.id, taken.state, taken.attempts) == (job.id, "running", 2)


_WORK = """
import sys
from pathlib import Path
from bedside.service.jobs import JobStore
from bedside.system.atomic import write_bytes
store = JobStore(Path(sys.argv[1]))
start = int(sys.argv[2])
for n in range(start, start + 1000):
    job, is_new = store.add("http", str(n), {}, state="queued")
    print("accepted", n, flush=True)
    job = store.claim("http", ["queued", "running"], state="running")
    write_bytes(store.folder(job) / "result", job.key.encode() * 2000)
    store.move(job, "done")
    print("done", job.key, flush=True)
"""


def test_killed_at_any_moment_nothing_acknowledged_is_lost_and_nothing_is_done_twice(tmp_path):
    accepted, done = set(), []
    for turn in range(4):
        with _start(_WORK, tmp_path, 1000 * turn) as child:
            for count, line in enumerate(child.stdout):
                word, number = line.split()
                accepted.add(number) if word == "accepted" else done.append(number)
                if count == 7 + 3 * turn:  # the child goes on while we decide
                    os.kill(child.pid, signal.SIGKILL)

    with JobStore(tmp_path) as store:
        jobs = {job.key: job for job in store.list()}
        assert accepted <= set(jobs)
        assert len(done) == len(set(done))
        for key in done:
            assert jobs[key].state == "done"
        for job in jobs.values():
            if job.state == "done":
                assert (store.folder(job) / "result").read_bytes() == job.key.encode() * 2000
        while (job := store.claim("http", ["queued", "running"])) is not None:
            assert job.key not in done
            store.move(job, "done")
        assert set(store.count()) == {("http", "done")}
