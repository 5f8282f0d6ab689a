"""Workers as processes of this machine."""

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

# Loading a model takes seconds; a worker that needs longer hangs.
_START_LIMIT_S = 300.0
_EXIT_LIMIT_S = 5.0


class Worker(Protocol):
    """Runs cases, one at a time."""

    def submit(self, job: Job) -> None:
        """Submit a case."""
        ...

    def stop(self) -> None:
        """Stop the worker, whatever it is doing."""
        ...


class WorkerPool(Protocol):
    """Starts workers and receives their messages.

    Attributes:
        start_limit_s: Time limit until a worker is ready; None for none.
    """

    @property
    def start_limit_s(self) -> float | None: ...  # noqa: D102

    def start(self, first: Job) -> Worker:
        """Start a worker, which loads the bundle of a job and then reports `Ready`."""
        ...

    def listen(
        self, workers: Collection[Worker], timeout_s: float | None
    ) -> list[tuple[Worker, Message]]:
        """Messages of workers: at least one, or none after the timeout."""
        ...


class Process:
    """A worker that is a process.

    Args:
        first: A job whose bundle it loads.
    """

    def __init__(self, first: Job) -> None:
        # A fork would copy the locks of the runtime's threads, but not the threads.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process: SpawnProcess = context.Process(
            target=serve, args=(theirs, first), daemon=True
        )
        # Ctrl-C reaches the whole group of processes; the parent decides what it means.
        with starting():
            self._process.start()
        # Closing our copy of the child's end makes its exit visible as an end of file.
        theirs.close()

    def submit(self, job: Job) -> None:
        """Submit a case; if the process has exited, `receive` reports it."""
        with contextlib.suppress(OSError):
            self.connection.send(job)

    def receive(self) -> Message:
        """Receive one message, or `WorkerExited`."""
        try:
            message: Message = self.connection.recv()
        except (EOFError, OSError):
            self._process.join(_EXIT_LIMIT_S)
            return WorkerExited(_describe_end(self._process.exitcode))
        return message

    def stop(self) -> None:
        """Kill the process, which holds nothing that needs cleaning up."""
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
        """Wait for messages and for exits: an exiting process closes its connection."""
        by_connection = {
            worker.connection: worker for worker in workers if isinstance(worker, Process)
        }
        ready = wait(list(by_connection), timeout_s)
        return [
            (by_connection[connection], by_connection[connection].receive())
            for connection in ready
            if isinstance(connection, Connection)
        ]


def _describe_end(code: int | None) -> str:
    """How a process ended, in words."""
    if code is None:
        return "it closed its connection"
    if code >= 0:
        return f"it left with exit code {code}"
    with contextlib.suppress(ValueError):
        name = signal.Signals(-code).name
        memory = ", as the system does when memory runs out" if name == "SIGKILL" else ""
        return f"it was killed by {name}{memory}"
    return f"it was killed by signal {-code}"
