"""The SQLite file of a store of jobs: rows, transactions, and threads that wait for a change."""

import json
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from bedside.errors import ClosedError, FormatError, OutputError, UsageError

COLUMNS = (
    "id, kind, key, state, payload, progress, reason, attempts, due, created, updated, version, "
    "owner"
)
"""The columns of a job, in the order of its fields."""

_VERSION = 1
_SCHEMA = """
CREATE TABLE jobs (
    id TEXT PRIMARY KEY, kind TEXT NOT NULL, key TEXT NOT NULL, state TEXT NOT NULL,
    payload TEXT NOT NULL, progress REAL NOT NULL, reason TEXT NOT NULL,
    attempts INTEGER NOT NULL, due REAL NOT NULL, created REAL NOT NULL, updated REAL NOT NULL,
    version INTEGER NOT NULL, owner TEXT, UNIQUE (kind, key)
);
CREATE INDEX jobs_by_state ON jobs (kind, state, due);
CREATE INDEX jobs_by_owner ON jobs (owner) WHERE owner IS NOT NULL;
"""
# How long a thread waits for another process that writes.
_BUSY_S = 30.0


@dataclass(frozen=True)
class Job:
    """A job as it was when it was read.

    Attributes:
        id: 32 hexadecimal digits, random: who knows it was told it.
        kind: Which door or worker it is for, such as "series".
        key: What makes it one job however often it is asked for; unique within its kind.
        state: Its state, one of those that its kind has.
        payload: What the work needs to know, as JSON.
        progress: Part that is done, in [0, 1].
        reason: Why it has this state, for people: no patient's name or id.
        attempts: How often it was claimed since `move` gave it another state.
        due: When it may be claimed, in seconds since 1970.
        created: When it was accepted, in seconds since 1970.
        updated: When it changed last, in seconds since 1970.
        version: Grows with every claim and change of state.
        owner: Who works on it; None if nobody does.
    """

    id: str
    kind: str
    key: str
    state: str
    payload: Mapping[str, Any]
    progress: float
    reason: str
    attempts: int
    due: float
    created: float
    updated: float
    version: int
    owner: str | None


class JobDatabase:
    """One connection, held by one thread at a time.

    Args:
        path: The file; made if it is missing, readable for its user only.

    Raises:
        FormatError: If it holds jobs of another version, or is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        lock = threading.RLock()
        self._lock, self.changed = lock, threading.Condition(lock)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        self._connection: sqlite3.Connection | None = sqlite3.connect(
            path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
        )
        try:
            version = self._prepare(self._connection)
        except sqlite3.DatabaseError as error:
            self.close()
            raise FormatError(
                f"{path} cannot be read ({error}). Move it away to begin without jobs."
            ) from error
        if version != _VERSION:
            self.close()
            raise FormatError(
                f"{path} holds jobs of version {version}; this bedside has {_VERSION}. Choose "
                "another folder, or the bedside that wrote it."
            )

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Hold the connection.

        Raises:
            ClosedError: If it was closed.
        """
        with self._lock:
            if self._connection is None:
                raise ClosedError("the store of jobs was closed. Open another one.")
            yield self._connection

    @contextmanager
    def writing(self, *, is_synced: bool = True) -> Iterator[sqlite3.Connection]:
        """Hold the connection in a transaction.

        Args:
            is_synced: Whether it is on disk at the end of the block, or soon after.

        Raises:
            OutputError: If it cannot be written; then nothing is changed.
            ClosedError: If it was closed.
        """
        with self.reading() as connection:
            try:
                connection.execute(f"PRAGMA synchronous = {'FULL' if is_synced else 'NORMAL'}")
                connection.execute("BEGIN IMMEDIATE")
                try:
                    yield connection
                    connection.execute("COMMIT")
                except BaseException:
                    if connection.in_transaction:
                        connection.execute("ROLLBACK")
                    raise
            except sqlite3.OperationalError as error:
                raise OutputError(f"cannot write {self.path}: {error}.") from error
            self.changed.notify_all()

    def find(self, where: str, values: Sequence[Any]) -> Job | None:
        """Return the job that meets a condition, or None."""
        with self.reading() as connection:
            row = connection.execute(
                f"SELECT {COLUMNS} FROM jobs WHERE {where}", tuple(values)
            ).fetchone()
        return None if row is None else make_job(row)

    def close(self) -> None:
        """Close the file; threads that wait for a change go on."""
        with self._lock:
            connection, self._connection = self._connection, None
            if connection is not None:
                with closing(connection):
                    pass
            self.changed.notify_all()

    @staticmethod
    def _prepare(connection: sqlite3.Connection) -> int:
        """Make the table if the file is new; return the version of the file."""
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("BEGIN IMMEDIATE")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version == 0:
            for statement in filter(str.strip, _SCHEMA.split(";")):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {_VERSION}")
        connection.execute("COMMIT")
        return int(version or _VERSION)


def where_clause(kind: str | None, states: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """Return the condition for a kind and states in SQL, and its values.

    Args:
        kind: None for all.
        states: All if empty.

    Raises:
        UsageError: If `states` is one text.
    """
    if isinstance(states, str):
        raise UsageError(f"states is {states!r}; expected a list of states.")
    parts = ["kind = ?"] if kind is not None else []
    if states:
        parts.append(f"state IN ({', '.join('?' * len(states))})")
    return " AND ".join(parts) or "1", (*([kind] if kind is not None else []), *states)


def make_job(row: tuple[Any, ...]) -> Job:
    """Return the job of a row with `COLUMNS`."""
    fields = list(row)
    fields[4] = MappingProxyType(json.loads(fields[4]))
    return Job(*fields)
