"""A worker: a process that loads the model once and runs one case after another."""

import os
import queue
import signal
import threading
from dataclasses import dataclass
from multiprocessing.connection import Connection

from bedside.batch.job import Job, Loader, run_job
from bedside.batch.record import Record
from bedside.errors import BackendError, BedsideError, OutputError
from bedside.system.signals import end_with_parent

# Libraries that start a thread for every core unless they are told; read when they load.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Ready:
    """The worker has loaded its model and waits for cases."""


@dataclass(frozen=True)
class Fatal:
    """An error that ends the whole batch.

    Attributes:
        type: Name of the error in `bedside.errors`.
        message: Its text.
    """

    type: str
    message: str


@dataclass(frozen=True)
class WorkerExited:
    """The worker has exited.

    Attributes:
        reason: How it ended, such as "it was killed by SIGKILL".
    """

    reason: str


Message = Ready | Record | Fatal | WorkerExited


class CaseRunner:
    """Runs cases in a worker, whatever the transport.

    Args:
        threads: Number of threads of this process.
    """

    def __init__(self, threads: int) -> None:
        self._loader = Loader()
        import cv2

        cv2.setNumThreads(threads)

    def prepare(self, job: Job) -> Ready | Fatal:
        """Load the bundle of the first case."""
        try:
            self._loader.load(job)
        except BedsideError as error:
            return Fatal(type(error).__name__, str(error))
        return Ready()

    def run(self, job: Job) -> Record | Fatal:
        """Run a case."""
        try:
            return run_job(job, self._loader.load)
        except (BackendError, OutputError) as error:
            return Fatal(type(error).__name__, str(error))


def limit_threads(threads: int) -> None:
    """Limit the threads of libraries that are loaded later."""
    for variable in _THREAD_VARIABLES:
        os.environ.setdefault(variable, str(threads))


def serve(connection: Connection, first: Job) -> None:
    """Run cases until there are no more, or the parent process has exited.

    Args:
        connection: Receives jobs, None after the last, and sends messages.
        first: A job whose bundle is loaded first.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # see `bedside.system.signals.starting`
    end_with_parent()
    limit_threads(first.threads)
    inbox: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(connection, inbox), daemon=True).start()
    runner = CaseRunner(first.threads)
    connection.send(runner.prepare(first))
    while (job := inbox.get()) is not None:
        connection.send(runner.run(job))


def _receive(connection: Connection, inbox: "queue.SimpleQueue[Job | None]") -> None:
    """Receive jobs; exit at once if the parent process has exited."""
    while True:
        try:
            job = connection.recv()
        except (EOFError, OSError):
            os._exit(1)
        inbox.put(job)
        if job is None:
            return
