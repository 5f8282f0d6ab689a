"""Workers as processes of this machine: hired, given cases, listened to, and stopped."""

import contextlib
import multiprocessing
import signal
from collections.abc import Collection
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Protocol

from bedside.batch.job import Job
from bedside.batch.worker import Message, WorkerExited, serve
from bedside.system.signals import starting

# A worker that has not loaded its model by then never will.
_START_LIMIT_S = 300.0
_LAST_WORDS_S = 5.0


class Worker(Protocol):
    """Whoever does cases, one at a time."""

    def give(self, job: Job) -> None:
        """Hand a case over."""
        ...

    def stop(self) -> None:
        """End the worker, whatever it is doing."""
        ...


class WorkerPool(Protocol):
    """Whoever finds workers, and hears them.

    Attributes:
        start_limit_s: Time within which a worker is ready; None for no limit.
    """

    @property
    def start_limit_s(self) -> float | None: ...  # noqa: D102

    def start(self, first: Job) -> Worker:
        """Start a worker, which loads the bundle of a job and then says that it is ready."""
        ...

    def listen(
        self, workers: Collection[Worker], timeout_s: float | None
    ) -> list[tuple[Worker, Message]]:
        """Wait until at least one of them has something to say, or for a time."""
        ...


class Process:
    """A worker that is a process.

    Args:
        first: A job whose bundle it loads.
    """

    def __init__(self, first: Job) -> None:
        # A fork would take locks of the runtime's threads over, but not the threads.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process: SpawnProcess = context.Process(
            target=serve, args=(theirs, first), daemon=True
        )
        # Ctrl-C reaches the whole group of processes; the parent decides what it means.
        with starting():
            self._process.start()
        # Our copy of their end is closed, so that its end is heard when they are gone.
        theirs.close()

    def give(self, job: Job) -> None:
        """Hand a case over; one who is gone does not take it, and is heard to be gone."""
        with contextlib.suppress(OSError):
            self.connection.send(job)

    def hear(self) -> Message:
        """Take one message, or find the worker gone."""
        try:
            message: Message = self.connection.recv()
        except (EOFError, OSError):
            self._process.join(_LAST_WORDS_S)
            return WorkerExited(_describe_end(self._process.exitcode))
        return message

    def stop(self) -> None:
        """Kill the process; it holds nothing that must be put in order."""
        self._process.kill()
        self._process.join()
        self._process.close()
        self.connection.close()


class Processes:
    """Workers that are processes of this machine."""

    start_limit_s: float | None = _START_LIMIT_S

    def start(self, first: Job) -> Process:
        """Start a process."""
        return Process(first)

    def listen(
        self, workers: Collection[Worker], timeout_s: float | None
    ) -> list[tuple[Worker, Message]]:
        """Wait for messages, and for ends: a process that dies closes its connection."""
        by_connection = {
            worker.connection: worker for worker in workers if isinstance(worker, Process)
        }
        heard = wait(list(by_connection), timeout_s)
        return [
            (by_connection[connection], by_connection[connection].hear())
            for connection in heard
            if isinstance(connection, Connection)
        ]


def _describe_end(code: int | None) -> str:
    """Tell how a process ended."""
    if code is None:
        return "it closed its connection"
    if code >= 0:
        return f"it left with exit code {code}"
    with contextlib.suppress(ValueError):
        name = signal.Signals(-code).name
        memory = ", as the system does when memory runs out" if name == "SIGKILL" else ""
        return f"it was killed by {name}{memory}"
    return f"it was killed by signal {-code}"
