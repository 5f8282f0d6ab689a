"""Batches by real processes, which are killed, stopped and starved."""

import os
import signal
import time
from dataclasses import replace

import pytest

from bedside.batch.job import find_done, run_job
from bedside.batch.record import append_line, read_record
from bedside.batch.run import run_batch
from bedside.batch.worker_pool import Processes
from bedside.errors import BackendError, BundleError, UsageError, WorkerError

pytest_plugins = ["batch_fixtures"]


class Killing(Processes):
    """A crew in which whoever is given a case of this name is killed, so many times."""

    def __init__(self, name, times, number=signal.SIGKILL):
        self.name, self.times, self.number, self.hired = name, times, number, 0

    def start(self, first):
        self.hired += 1
        worker = super().start(first)
        submit = worker.submit

        def submit_and_kill(job):
            if job.case.id == self.name and self.times:
                self.times -= 1
                os.kill(worker._process.pid, self.number)
            submit(job)

        worker.submit = submit_and_kill
        return worker


def statuses(records):
    return {record.id: record.status for record in records}


def names(folder):
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


def test_a_killed_worker_s_case_is_done_by_the_next(plan, tmp_path):
    pool = Killing("b", 1)
    records = run_batch(plan(), pool, size=1)
    assert statuses(records) == dict.fromkeys("abc", "done")
    assert [record.attempts for record in records] == [1, 2, 1]
    assert pool.hired == 2


def test_a_case_that_kills_two_workers_is_given_up_and_the_others_are_done(plan, tmp_path):
    pool = Killing("a", 9)
    heard = []
    records = run_batch(plan(), pool, size=1, on_record=heard.append)
    assert statuses(records) == {"a": "failed", "b": "done", "c": "done"}
    assert len(heard) == 3
    assert pool.times == 7
    error = records[0].error
    assert error.type == "WorkerError"
    assert "SIGKILL" in error.message
    assert "a.png" in error.message
    assert names(tmp_path / "out") == {"b", "c", "results.jsonl"}
    assert not list((tmp_path / "out" / ".batch" / "parts").iterdir())
    again = run_batch(plan(resume=True), Processes(), size=1)
    assert statuses(again) == dict.fromkeys("abc", "done")


class Crowded(Processes):
    """A cluster with room for one worker; those started later never load."""

    def __init__(self):
        self.hired, self.stopped = 0, 0

    def start(self, first):
        self.hired += 1
        if self.hired == 1:
            return super().start(first)
        return self

    def submit(self, job):
        raise AssertionError("a worker that has not loaded was given a case")

    def stop(self):
        self.stopped += 1


def test_a_run_does_not_wait_for_workers_that_no_case_waits_for(plan):
    pool = Crowded()
    records = run_batch(plan(), pool, size=2)
    assert statuses(records) == dict.fromkeys("abc", "done")
    assert (pool.hired, pool.stopped) == (2, 1)


def test_a_case_that_hangs_is_stopped_after_its_timeout(plan, tmp_path):
    begin = time.monotonic()
    # A process that is stopped does nothing any more, and is still there.
    pool = Killing("b", 1, signal.SIGSTOP)
    records = run_batch(plan(), pool, size=1, timeout_s=4)
    assert statuses(records) == {"a": "done", "b": "failed", "c": "done"}
    assert "longer than 4 s" in records[1].error.message
    assert records[1].attempts == 1
    assert time.monotonic() - begin < 60


def test_what_was_done_before_its_worker_died_is_done(plan, tmp_path):
    """A worker that has settled its case and is killed before it says so."""
    made = plan("a")

    class Doing(Killing):
        def start(self, first):
            worker = super().start(first)
            if self.hired == 1:
                run_job(made.jobs[0], loader.load)
            return worker

    from bedside.batch.job import Loader

    loader = Loader()
    pool = Doing("a", 1)
    records = run_batch(made, pool, size=1)
    assert statuses(records) == {"a": "done"}
    assert pool.hired == 1


def test_workers_that_never_start_end_the_batch(plan, tmp_path):
    class Stillborn(Processes):
        def start(self, first):
            worker = super().start(first)
            worker._process.kill()
            return worker

    with pytest.raises(WorkerError, match="5 workers in a row"):
        run_batch(plan("a"), Stillborn(), size=2)


def with_options(job, name, **changes):
    """The job with other options of one class."""
    options = replace(job.options, **{name: replace(getattr(job.options, name), **changes)})
    return replace(job, options=options)


def test_a_missing_backend_ends_the_batch_with_its_own_error(plan, tmp_path):
    made = plan("ab")
    jobs = tuple(
        with_options(job, "run", precision="bf16", backend="onnxruntime") for job in made.jobs
    )
    pytest.importorskip("onnxruntime")
    with pytest.raises(BackendError, match="bf16"):
        run_batch(replace(made, jobs=jobs), Processes(), size=1)
    assert names(tmp_path / "out") == {"results.jsonl"}
    assert (tmp_path / "out" / "results.jsonl").read_text() == ""


def test_only_what_is_still_the_same_counts_as_done(plan, tmp_path):
    first = plan("ab")
    run_batch(first, Processes(), size=1)
    job = first.jobs[0]
    assert find_done(job) is not None
    assert find_done(replace(job, bundle_sha256="0" * 64)) is None
    assert find_done(with_options(job, "output", labels_format="nifti")) is None
    assert find_done(with_options(job, "run", threads=2)) is not None
    os.utime(tmp_path / "b.png", ns=(1, 1))
    kept = plan("ab", resume=True).kept
    assert [record.id for record in kept] == ["a"]


def test_results_that_are_there_are_not_written_over_unasked(plan, tmp_path):
    run_batch(plan("a"), Processes(), size=1)
    with pytest.raises(UsageError, match="--resume"):
        plan("a")
    (tmp_path / "out" / "b").mkdir()
    for resume in (False, True):
        with pytest.raises(UsageError, match="in the way"):
            plan("b", resume=resume)


def test_a_resumed_batch_repairs_its_list(plan, tmp_path):
    made = plan("ab")
    records = run_batch(made, Processes(), size=1)
    whole = made.listing.read_bytes()
    append_line(records[0], made.listing)
    made.listing.write_bytes(made.listing.read_bytes()[:-20])
    assert run_batch(plan("ab", resume=True), Processes(), size=1) == records
    assert made.listing.read_bytes() == whole


def test_a_bundle_that_changes_under_way_is_refused(plan, tmp_path, bundle):
    made = plan("a")
    jobs = tuple(replace(job, bundle_sha256="0" * 64) for job in made.jobs)
    with pytest.raises(BundleError, match="has changed since"):
        run_batch(replace(made, jobs=jobs), Processes(), size=1)
    assert read_record(tmp_path / "out", "a") is None
