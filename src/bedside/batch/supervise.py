"""Hands cases to workers until all are settled, whatever becomes of the workers."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from bedside import errors
from bedside.batch.job import Job, find_done
from bedside.batch.record import Record, clear_parts, commit_record
from bedside.batch.worker import Fatal, Message, Ready, WorkerExited
from bedside.batch.worker_pool import Worker, WorkerPool
from bedside.errors import BedsideError, WorkerError

MOST_ATTEMPTS = 2
"""Workers that a case may kill before it is given up."""

_MOST_FAILED_STARTS = 5


@dataclass
class _Slot:
    """A worker and what it is at.

    Attributes:
        worker: The worker.
        since: When it began what it is at, as `time.monotonic` tells it.
        job: The case that it does; None while it loads, or waits.
        ready: Whether it has loaded its model.
    """

    worker: Worker
    since: float
    job: Job | None = None
    ready: bool = False


class Supervisor:
    """One batch under way.

    Args:
        jobs: The cases.
        pool: Where workers come from.
        size: How many workers there are at most.
        timeout_s: Time that a case may take; None for no limit.
        on_record: Called with each record, in the order in which cases are settled.
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
        self._crew, self._size, self._timeout_s = pool, size, timeout_s
        self._on_record = on_record
        self._seats: list[_Slot] = []
        self._failed_starts = 0

    def run(self) -> None:
        """Work until every case has its record.

        Raises:
            BackendError: If the runtime is not installed.
            OutputError: If results cannot be written.
            WorkerError: If workers die before they have begun a case.
        """
        try:
            self._hire()
            while self._seats:
                self._turn()
        finally:
            for seat in self._seats:
                seat.worker.stop()

    def _turn(self) -> None:
        """Take what workers say, then see to those who have taken too long."""
        seats = {id(seat.worker): seat for seat in self._seats}
        workers = [seat.worker for seat in self._seats]
        for worker, message in self._crew.listen(workers, self._patience_s()):
            self._take(seats[id(worker)], message)
        now = time.monotonic()
        for seat in list(self._seats):
            limit_s = self._limit_s(seat)
            if limit_s is not None and now - seat.since >= limit_s:
                self._overran(seat, limit_s)
        self._hire()

    def _take(self, seat: _Slot, message: Message) -> None:
        """Act on what one worker says."""
        if isinstance(message, WorkerExited):
            self._lost(seat, message.reason)
        elif isinstance(message, Fatal):
            raise _remake(message)
        else:
            if isinstance(message, Ready):
                seat.ready = True
                self._failed_starts = 0
            else:
                self._on_record(message)
            self._give_next(seat)

    def _give_next(self, seat: _Slot) -> None:
        """Return a worker its next case, or let it go."""
        if not self._waiting:
            self._dismiss(seat)
            return
        seat.job = self._waiting.popleft()
        seat.since = time.monotonic()
        seat.worker.give(seat.job)

    def _lost(self, seat: _Slot, reason: str) -> None:
        """See to the case of a worker that died: once more, or given up."""
        self._dismiss(seat)
        job = seat.job
        if job is None:
            self._failed_start(reason)
            return
        if record := find_done(job):
            # It died after its work was done, and before it could say so.
            self._on_record(record)
        elif job.attempt < MOST_ATTEMPTS:
            self._waiting.appendleft(replace(job, attempt=job.attempt + 1))
        else:
            text = f"the worker died over this case {job.attempt} times; the last time {reason}."
            self._give_up(job, seat.since, text)

    def _overran(self, seat: _Slot, limit_s: float) -> None:
        """Stop a worker that takes too long. Its case would take as long once more."""
        self._dismiss(seat)
        if seat.job is None:
            self._failed_start(f"it had not loaded its model after {limit_s:.0f} s")
        elif record := find_done(seat.job):
            self._on_record(record)
        else:
            text = f"it took longer than {limit_s:g} s; raise the limit with --timeout."
            self._give_up(seat.job, seat.since, text)

    def _give_up(self, job: Job, begun: float, text: str) -> None:
        """Put a case on record as failed."""
        clear_parts(job.output, [job.case.id])
        error = WorkerError(f"{job.case.source}: {text}")
        record = job.finish("failed", begun=begun, error=error)
        commit_record(record, job.output)
        self._on_record(record)

    def _failed_start(self, reason: str) -> None:
        """Count workers that die before their first case; none would be done by the next."""
        self._failed_starts += 1
        if self._failed_starts >= _MOST_FAILED_STARTS:
            raise WorkerError(
                f"{self._failed_starts} workers in a row ended before their first case, the "
                f"last because {reason}. Fewer workers need less memory: try --jobs 1."
            )

    def _dismiss(self, seat: _Slot) -> None:
        self._seats.remove(seat)
        seat.worker.stop()

    def _hire(self) -> None:
        """Fill free seats, as far as there is work that nobody is there to take."""
        loading = sum(not seat.ready for seat in self._seats)
        while self._first and len(self._seats) < self._size and loading < len(self._waiting):
            self._seats.append(_Slot(self._crew.start(self._first), time.monotonic()))
            loading += 1

    def _limit_s(self, seat: _Slot) -> float | None:
        return self._timeout_s if seat.ready else self._crew.start_limit_s

    def _patience_s(self) -> float | None:
        """Tell how long nobody can have taken too long."""
        now = time.monotonic()
        left = [
            seat.since + limit_s - now
            for seat in self._seats
            for limit_s in [self._limit_s(seat)]
            if limit_s is not None
        ]
        return max(0.0, min(left)) if left else None


def _remake(message: Fatal) -> BedsideError:
    """Make an error of a worker again, here."""
    kind = getattr(errors, message.type, BedsideError)
    error = kind(message.message)
    return error if isinstance(error, BedsideError) else BedsideError(message.message)
