"""Jobs on disk: what a server has accepted, in which state it is, and who works on it.

    FOLDER/jobs.sqlite   one row a job
    FOLDER/jobs/ID/      its files: what came in, what goes out
    FOLDER/owners/NAME   a process that works on jobs, locked while it lives

A job is there before its sender is answered: `add` and `move` return once the row is on disk
(SQLite with a write-ahead log, synced at every commit). A job is claimed by one process. If that
dies, however it dies, the system releases its lock, and the next `claim` takes the job over. Files
of a job are written first, whole, and its state changes then (`bedside.system.atomic`).
"""

import json
import secrets
import shutil
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bedside.errors import ClosedError, StaleJobError
from bedside.service.job_database import COLUMNS, Job, JobDatabase, make_job, where_clause
from bedside.service.owners import Owner, is_dead
from bedside.system.atomic import output_errors, sync_folder

__all__ = ["Job", "JobStore"]

# How often one that waits for work looks whether another process has brought some or has died.
_LOOK_S = 1.0


class JobStore:
    """The jobs in a folder, for any number of threads and processes.

    Args:
        folder: Where they are; made if it is missing, readable for its user only.
        clock: Seconds since 1970.

    Raises:
        OutputError: If the folder cannot be made or written to.
        FormatError: If it holds jobs of another version, or a damaged file.
        BackendError: If this system has no file locks.
    """

    def __init__(self, folder: Path, *, clock: Callable[[], float] = time.time) -> None:
        self.path = Path(folder)
        self._clock = clock
        with output_errors(self.path):
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            (self.path / "jobs").mkdir(exist_ok=True, mode=0o700)
            self._database = JobDatabase(self.path / "jobs.sqlite")
            try:
                self._owner = Owner(self.path / "owners")
            except BaseException:
                self._database.close()
                raise
        self._free_dead()
        self._remove_orphans()

    def add(
        self,
        kind: str,
        key: str,
        payload: Mapping[str, Any],
        *,
        state: str,
        due: float | None = None,
    ) -> tuple[Job, bool]:
        """Add a job, unless there is one with this key.

        Args:
            kind: Which door or worker it is for.
            key: What makes it one job.
            payload: What the work needs to know; JSON.
            state: Its first state.
            due: When it may be claimed, in seconds since 1970; None for now.

        Returns:
            The job, as it is if it was there, and whether it is new. It is on disk.
        """
        now = self._clock()
        row = (secrets.token_hex(16), kind, key, state, json.dumps(dict(payload)))
        with self._database.writing() as connection:
            cursor = connection.execute(
                f"INSERT INTO jobs ({COLUMNS}) VALUES (?, ?, ?, ?, ?, 0, '', 0, ?, ?, ?, 1, NULL) "
                "ON CONFLICT (kind, key) DO NOTHING",
                (*row, now if due is None else due, now, now),
            )
            found = connection.execute(
                f"SELECT {COLUMNS} FROM jobs WHERE kind = ? AND key = ?", (kind, key)
            )
            return make_job(found.fetchone()), cursor.rowcount == 1

    def get(self, job_id: str) -> Job | None:
        """Return a job by its id, or None if there is none."""
        return self._database.find("id = ?", (job_id,))

    def find(self, kind: str, key: str) -> Job | None:
        """Return a job by its key, or None if there is none."""
        return self._database.find("kind = ? AND key = ?", (kind, key))

    def list(
        self, kind: str | None = None, states: Sequence[str] = (), *, limit: int = 1000
    ) -> "list[Job]":
        """Return jobs, the latest first.

        Args:
            kind: Of this kind; None for all.
            states: In these states; all if empty.
            limit: At most so many.
        """
        where, values = where_clause(kind, states)
        with self._database.reading() as connection:
            rows = connection.execute(
                f"SELECT {COLUMNS} FROM jobs WHERE {where} ORDER BY created DESC, rowid DESC "
                "LIMIT ?",
                (*values, limit),
            ).fetchall()
        return [make_job(row) for row in rows]

    def count(self) -> dict[tuple[str, str], int]:
        """Return how many jobs there are of each kind in each state."""
        with self._database.reading() as connection:
            rows = connection.execute("SELECT kind, state, count(*) FROM jobs GROUP BY 1, 2")
            return {(kind, state): number for kind, state, number in rows}

    def claim(
        self, kind: str, states: Sequence[str], *, state: str | None = None, wait_s: float = 0.0
    ) -> Job | None:
        """Take a job that is due and that nobody works on.

        Jobs of processes that have died are among them. The one that was tried least comes first,
        so that one that ends its process keeps no other waiting; of these the one due longest.

        Args:
            kind: Of this kind.
            states: In one of these states.
            state: The state that it gets; None to leave it.
            wait_s: Seconds to wait for one.

        Returns:
            The job, counted as one more attempt, which `move` gives back; None if there is none.
        """
        until = time.monotonic() + wait_s
        with self._database.changed:
            while (job := self._claim(kind, states, state)) is None:
                left_s = until - time.monotonic()
                if left_s <= 0:
                    return None
                self._database.changed.wait(min(left_s, self._until_due(kind, states), _LOOK_S))
        return job

    def move(
        self,
        job: Job,
        state: str,
        *,
        payload: Mapping[str, Any] | None = None,
        reason: str = "",
        due: float | None = None,
        keep: bool = False,
    ) -> Job:
        """Change the state of a job, if nobody has changed it since it was read.

        Files in its folder are on disk before. To try a job again, leave its state and set `due`:
        another state begins to count attempts anew.

        Args:
            job: The job, as it was read.
            state: Its new state.
            payload: What replaces the payload; None to leave it.
            reason: Why it has this state.
            due: When it may be claimed again, in seconds since 1970; None for now.
            keep: Keep the claim of this process, which otherwise ends.

        Returns:
            The job as it is now. It is on disk.

        Raises:
            StaleJobError: If it was changed, or removed.
        """
        for place in (self.folder(job), self.folder(job).parent):
            sync_folder(place)
        now = self._clock()
        due_s = now if due is None else due
        text = json.dumps(dict(job.payload if payload is None else payload))
        with self._database.writing() as connection:
            cursor = connection.execute(
                "UPDATE jobs SET state = ?, payload = ?, reason = ?, due = ?, updated = ?, "
                "attempts = iif(state = ?, attempts, 0), version = version + 1, "
                "owner = iif(?, owner, NULL) WHERE id = ? AND version = ?",
                (state, text, reason, due_s, now, state, keep, job.id, job.version),
            )
            return self._changed_job(job, cursor, wanted=state)

    def release(self, job: Job) -> None:
        """Return a claimed job as it was: the claim does not count as an attempt.

        Raises:
            StaleJobError: If it was changed, or removed.
        """
        with self._database.writing() as connection:
            cursor = connection.execute(
                "UPDATE jobs SET attempts = attempts - 1, version = version + 1, owner = NULL "
                "WHERE id = ? AND version = ? AND owner = ?",
                (job.id, job.version, self._owner.name),
            )
            self._changed_job(job, cursor, wanted=job.state)

    def report(self, job: Job, progress: float) -> None:
        """Record the progress of a job; after a loss of power it may be an earlier one.

        Args:
            job: The job, as it was read.
            progress: Part that is done, in [0, 1].

        Raises:
            StaleJobError: If it was changed, as by one who cancels it.
        """
        with self._database.writing(is_synced=False) as connection:
            cursor = connection.execute(
                "UPDATE jobs SET progress = ?, updated = ? WHERE id = ? AND version = ?",
                (min(1.0, max(0.0, progress)), self._clock(), job.id, job.version),
            )
            self._changed_job(job, cursor, wanted=job.state)

    def wait(self, job: Job, timeout_s: float) -> Job | None:
        """Return a job once it is not as it was read any more, or after a time.

        Changes by other processes are seen within a second.

        Returns:
            The job as it is now; None if it was removed.
        """
        until = time.monotonic() + timeout_s
        with self._database.changed:
            while (now := self.get(job.id)) == job and (left_s := until - time.monotonic()) > 0:
                self._database.changed.wait(min(left_s, _LOOK_S))
        return now

    def folder(self, job: Job) -> Path:
        """Return the folder for the files of a job; whoever writes there makes it."""
        return self.path / "jobs" / job.id

    def remove(
        self,
        kind: str,
        states: Sequence[str],
        *,
        older_s: float,
        keep: Callable[[Job], bool] = lambda job: False,
    ) -> int:
        """Remove jobs that nobody works on, with their files.

        Args:
            kind: Of this kind.
            states: In these states.
            older_s: Seconds since they changed last, at least.
            keep: Whether one stays all the same.

        Returns:
            How many.
        """
        where, values = where_clause(kind, states)
        where += " AND owner IS NULL AND updated <= ?"
        with self._database.writing() as connection:
            found = connection.execute(
                f"SELECT {COLUMNS} FROM jobs WHERE {where}", (*values, self._clock() - older_s)
            )
            jobs = [job for row in found.fetchall() if not keep(job := make_job(row))]
            connection.executemany("DELETE FROM jobs WHERE id = ?", [(job.id,) for job in jobs])
        for job in jobs:  # a folder that stays is an orphan of the next start
            shutil.rmtree(self.path / "jobs" / job.id, ignore_errors=True)
        return len(jobs)

    def close(self) -> None:
        """Release what this process has claimed, and close the store; once is enough."""
        try:
            self._give_back(self._owner.name)
        except ClosedError:
            return
        self._database.close()
        self._owner.close()

    def __enter__(self) -> "JobStore":
        """Return the store; it is closed at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the store."""
        self.close()

    def _claim(self, kind: str, states: Sequence[str], state: str | None) -> Job | None:
        """Take a job that is due, if there is one."""
        self._free_dead()
        where, values = where_clause(kind, states)
        now = self._clock()
        with self._database.reading() as connection:  # most looks find nothing, and need not write
            due = f"{where} AND owner IS NULL AND due <= ?"
            if not connection.execute(f"SELECT 1 FROM jobs WHERE {due}", (*values, now)).fetchone():
                return None
        with self._database.writing() as connection:
            row = connection.execute(
                "UPDATE jobs SET owner = ?, state = coalesce(?, state), attempts = attempts + 1, "
                "updated = ?, version = version + 1 "
                f"WHERE id = (SELECT id FROM jobs WHERE {due} "
                f"ORDER BY attempts, due, rowid LIMIT 1) RETURNING {COLUMNS}",
                (self._owner.name, state, now, *values, now),
            ).fetchone()
        return None if row is None else make_job(row)

    def _until_due(self, kind: str, states: Sequence[str]) -> float:
        """Seconds until the next free job is due; infinite without one."""
        where, values = where_clause(kind, states)
        with self._database.reading() as connection:
            (due,) = connection.execute(
                f"SELECT min(due) FROM jobs WHERE {where} AND owner IS NULL", values
            ).fetchone()
        return float("inf") if due is None else max(0.0, due - self._clock())

    def _changed_job(self, job: Job, cursor: sqlite3.Cursor, *, wanted: str) -> Job:
        """Return a job that was just changed.

        Raises:
            StaleJobError: If it was not.
        """
        now = self.get(job.id)
        if cursor.rowcount != 1 or now is None:
            state = "removed" if now is None else f'changed to "{now.state}"'
            raise StaleJobError(
                f'job {job.id} was {state} by another, so it cannot become "{wanted}". Read it '
                "again."
            )
        return now

    def _free_dead(self) -> None:
        """Release what processes had claimed that have died."""
        with self._database.reading() as connection:
            rows = connection.execute(
                "SELECT DISTINCT owner FROM jobs WHERE owner IS NOT NULL AND owner != ?",
                (self._owner.name,),
            ).fetchall()
        for (owner,) in rows:
            if is_dead(self.path / "owners", owner):
                self._give_back(owner)

    def _give_back(self, owner: str) -> None:
        """Release what an owner has claimed."""
        with self._database.writing() as connection:
            connection.execute(
                "UPDATE jobs SET owner = NULL, version = version + 1 WHERE owner = ?", (owner,)
            )

    def _remove_orphans(self) -> None:
        """Remove what a process has left: its file, and folders whose job was removed.

        Folders of new jobs come after their rows.
        """
        for owner in list((self.path / "owners").iterdir()):
            is_dead(owner.parent, owner.name)
        for folder in list((self.path / "jobs").iterdir()):
            if self.get(folder.name) is None:
                shutil.rmtree(folder, ignore_errors=True)
