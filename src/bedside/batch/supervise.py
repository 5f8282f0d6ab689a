"""Distributes cases to workers until every case has a record, also if workers crash or hang."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from bedside import errors
from bedside.batch.job import Job, find_done
from bedside.batch.record import Record, clear_parts
from bedside.batch.worker import Fatal, Message, Ready, WorkerExited
from bedside.batch.worker_pool import Worker, WorkerPool
from bedside.errors import BedsideError, WorkerError

MAX_ATTEMPTS = 2
"""How many workers a case may crash before it is recorded as failed."""

_MAX_FAILED_STARTS = 5


@dataclass
class _Slot:
    """A worker and its current case.

    Attributes:
        worker: The worker.
        since: Start time of its current work, from `time.monotonic`.
        job: Its case; None while it loads or waits.
        ready: Whether its model is loaded.
    """

    worker: Worker
    since: float
    job: Job | None = None
    ready: bool = False


class Supervisor:
    """Runs one batch.

    Args:
        jobs: The cases.
        pool: Starts workers.
        size: Maximum number of workers.
        timeout_s: Time limit of a case; None for none.
        on_record: Called with each record as cases finish.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        pool: WorkerPool,
        *,
        size: int,
        timeout_s: float | None,
        on_record: Callable[[Record], None],
    ) -> None:
        self._first = jobs[0] if jobs else None
        self._waiting = deque(jobs)
        self._pool, self._size, self._timeout_s = pool, size, timeout_s
        self._on_record = on_record
        self._slots: list[_Slot] = []
        self._failed_starts = 0

    def run(self) -> None:
        """Run until every case has its record.

        Raises:
            BackendError: If the runtime is not installed.
            OutputError: If results cannot be written.
            WorkerError: If workers crash before they start a case.
        """
        try:
            self._start_workers()
            while self._slots:
                self._handle_events()
        finally:
            for slot in self._slots:
                slot.worker.stop()

    def _handle_events(self) -> None:
        """Handle messages of workers, then timeouts."""
        slots = {id(slot.worker): slot for slot in self._slots}
        workers = [slot.worker for slot in self._slots]
        for worker, message in self._pool.listen(workers, self._time_left_s()):
            self._handle(slots[id(worker)], message)
        now = time.monotonic()
        for slot in list(self._slots):
            limit_s = self._limit_s(slot)
            if limit_s is not None and now - slot.since >= limit_s:
                self._handle_timeout(slot, limit_s)
        self._start_workers()
        self._dismiss_loading()

    def _handle(self, slot: _Slot, message: Message) -> None:
        """Handle one message."""
        if isinstance(message, WorkerExited):
            self._handle_exit(slot, message.reason)
        elif isinstance(message, Fatal):
            raise _rebuild_error(message)
        else:
            if isinstance(message, Ready):
                slot.ready = True
                self._failed_starts = 0
            else:
                self._on_record(message)
            self._submit_next(slot)

    def _submit_next(self, slot: _Slot) -> None:
        """Submit the next case to a worker, or stop it if there is none."""
        if not self._waiting:
            self._stop(slot)
            return
        slot.job = self._waiting.popleft()
        slot.since = time.monotonic()
        slot.worker.submit(slot.job)

    def _handle_exit(self, slot: _Slot, reason: str) -> None:
        """Retry the case of a worker that has exited, or record it as failed."""
        self._stop(slot)
        job = slot.job
        if job is None:
            self._failed_start(reason)
            return
        if record := find_done(job):
            # It exited after finishing the case, before reporting it.
            self._on_record(record)
        elif job.attempt < MAX_ATTEMPTS:
            self._waiting.appendleft(replace(job, attempt=job.attempt + 1))
        else:
            text = f"the worker crashed on this case {job.attempt} times; the last time {reason}."
            self._fail(job, slot.since, text)

    def _handle_timeout(self, slot: _Slot, limit_s: float) -> None:
        """Stop a worker after its timeout; its case is not retried, it would time out again."""
        self._stop(slot)
        if slot.job is None:
            self._failed_start(f"it had not loaded its model after {limit_s:.0f} s")
        elif record := find_done(slot.job):
            self._on_record(record)
        else:
            text = f"it took longer than {limit_s:g} s; raise the limit with --timeout."
            self._fail(slot.job, slot.since, text)

    def _fail(self, job: Job, begun: float, text: str) -> None:
        """Record a case as failed."""
        clear_parts(job.output, [job.case.id])
        error = WorkerError(f"{job.case.name}: {text}")
        record = job.finish("failed", begun=begun, error=error)
        job.outputs.commit(record)
        self._on_record(record)

    def _failed_start(self, reason: str) -> None:
        """Count workers that exit before their first case, and end the batch after too many."""
        self._failed_starts += 1
        if self._failed_starts >= _MAX_FAILED_STARTS:
            raise WorkerError(
                f"{self._failed_starts} workers in a row ended before their first case, the "
                f"last because {reason}. Fewer workers need less memory: try --jobs 1."
            )

    def _stop(self, slot: _Slot) -> None:
        self._slots.remove(slot)
        slot.worker.stop()

    def _start_workers(self) -> None:
        """Start workers, up to the limit, while more cases wait than workers load."""
        loading = sum(not slot.ready for slot in self._slots)
        while self._first and len(self._slots) < self._size and loading < len(self._waiting):
            self._slots.append(_Slot(self._pool.start(self._first), time.monotonic()))
            loading += 1

    def _dismiss_loading(self) -> None:
        """Stop workers that still load when no case waits.

        A cluster may never have room for them. If a case has to be repeated, another is started.
        """
        if not self._waiting:
            for slot in [slot for slot in self._slots if not slot.ready]:
                self._stop(slot)

    def _limit_s(self, slot: _Slot) -> float | None:
        return self._timeout_s if slot.ready else self._pool.start_limit_s

    def _time_left_s(self) -> float | None:
        """Time until the next timeout."""
        now = time.monotonic()
        left = [
            slot.since + limit_s - now
            for slot in self._slots
            for limit_s in [self._limit_s(slot)]
            if limit_s is not None
        ]
        return max(0.0, min(left)) if left else None


def _rebuild_error(message: Fatal) -> BedsideError:
    """The error that a worker reported."""
    kind = getattr(errors, message.type, BedsideError)
    error = kind(message.message)
    return error if isinstance(error, BedsideError) else BedsideError(message.message)
