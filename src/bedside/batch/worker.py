"""A worker: a process of its own that loads the model once and does one case after another."""

import os
import queue
import signal
import threading
from dataclasses import dataclass
from multiprocessing.connection import Connection

from bedside.batch.job import Job, Loader, do_job
from bedside.batch.record import Record
from bedside.errors import BackendError, BedsideError, OutputError
from bedside.system.signals import end_with_parent

# Libraries that start a thread for every core unless they are told; read when they load.
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Ready:
    """The worker has loaded its model and waits."""


@dataclass(frozen=True)
class Fatal:
    """Something that ends the whole batch.

    Attributes:
        type: Name of the error in `bedside.errors`.
        message: What it says.
    """

    type: str
    message: str


@dataclass(frozen=True)
class WorkerExited:
    """The worker is no more.

    Attributes:
        reason: What is known of its end, such as "it was killed by SIGKILL".
    """

    reason: str


Message = Ready | Record | Fatal | WorkerExited


class CaseRunner:
    """What a worker does with what it is given, however the two are carried.

    Args:
        threads: Threads that this process may use.
    """

    def __init__(self, threads: int) -> None:
        self._loader = Loader()
        import cv2

        cv2.setNumThreads(threads)

    def prepare(self, job: Job) -> Ready | Fatal:
        """Load the bundle that the first case needs."""
        try:
            self._loader.load(job)
        except BedsideError as error:
            return Fatal(type(error).__name__, str(error))
        return Ready()

    def do(self, job: Job) -> Record | Fatal:
        """Do a case."""
        try:
            return do_job(job, self._loader.load)
        except (BackendError, OutputError) as error:
            return Fatal(type(error).__name__, str(error))


def limit_threads(threads: int) -> None:
    """Tell libraries that are yet to be loaded how many threads they may start."""
    for variable in _THREAD_VARIABLES:
        os.environ.setdefault(variable, str(threads))


def serve(connection: Connection, first: Job) -> None:
    """Do cases as they come, until there are no more, or the one who sends them is gone.

    Args:
        connection: Where jobs come from (None is the last), and messages go.
        first: A job whose bundle is loaded before anything is asked for.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # see `bedside.system.signals.starting`
    end_with_parent()
    limit_threads(first.threads)
    inbox: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(connection, inbox), daemon=True).start()
    runner = CaseRunner(first.threads)
    connection.send(runner.prepare(first))
    while (job := inbox.get()) is not None:
        connection.send(runner.do(job))


def _receive(connection: Connection, inbox: "queue.SimpleQueue[Job | None]") -> None:
    """Take jobs in; end the process at once when there is nobody left to work for."""
    while True:
        try:
            job = connection.recv()
        except (EOFError, OSError):
            os._exit(1)
        inbox.put(job)
        if job is None:
            return
