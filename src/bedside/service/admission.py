"""Admission: who may work now, who waits, who is refused at once.

Work is in three lanes: live streams, which never wait, before images before volumes. Each lane runs
and queues a bounded number, and takes nothing that would wait longer than is allowed, as far as the
measured cost of earlier work tells. So a refusal needs no work, and no queue grows.
"""

import enum
import itertools
import math
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType, TracebackType

from bedside.errors import BusyError, CancelledError, ClosedError, DeadlineError

_LEARNING_RATE = 0.2
# A bound on the table of costs, should names of work ever come from outside.
_MOST_COSTS = 1000


class Lane(enum.IntEnum):
    """A class of work; smaller numbers go first.

    A place of `FRAME` is for a whole stream, which takes no slot: its frames go between the images.
    """

    FRAME = 0
    IMAGE = 1
    VOLUME = 2


@dataclass(frozen=True)
class LaneLimits:
    """How much work of one lane is taken.

    Attributes:
        running: Pieces of work at the same time.
        waiting: Pieces that wait.
        wait_s: Work that would wait longer, as far as is known, is refused.
    """

    running: int
    waiting: int
    wait_s: float


LIMITS: Mapping[Lane, LaneLimits] = MappingProxyType({
    Lane.FRAME: LaneLimits(running=2, waiting=0, wait_s=0.0),
    Lane.IMAGE: LaneLimits(running=64, waiting=2, wait_s=5.0),
    Lane.VOLUME: LaneLimits(running=1, waiting=4, wait_s=120.0),
})  # fmt: skip


@dataclass(eq=False)
class Place:
    """A place in the queue, and then the right to work; a context manager.

    Entering waits for the turn; leaving gives it back. A place that is not entered must be left
    with `leave`.

    Attributes:
        lane: Class of the work.
        key: What its cost is remembered by.
        order: Number of its arrival.
        until: When it must be done, by `time.monotonic`.
    """

    admission: "Admission"
    lane: Lane
    key: str
    order: int
    until: float
    is_cancelled: bool = False
    started: float | None = None
    is_over: bool = False

    def cancel(self) -> None:
        """Give the work up, from any thread: its next `check` or its waiting raises."""
        with self.admission.changed:
            self.is_cancelled = True
            self.admission.changed.notify_all()

    def check(self) -> None:
        """Return if the work should go on.

        Raises:
            CancelledError: If it was cancelled.
            DeadlineError: If its time is over.
        """
        if self.is_cancelled:
            raise CancelledError("the work was cancelled.")
        if time.monotonic() > self.until:
            raise DeadlineError("the time for this work is over. Allow more, or send less.")

    def leave(self) -> None:
        """Give the place back; a second time changes nothing."""
        self.admission.end(self, learn=False)

    def __enter__(self) -> "Place":
        """Wait for the turn.

        Raises:
            CancelledError: If it is cancelled meanwhile.
            DeadlineError: If its time is over before.
        """
        try:
            self.admission.await_turn(self)
        except BaseException:
            self.leave()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        """Give the place back, and remember what the work took if it succeeded."""
        self.admission.end(self, learn=kind is None)


@dataclass
class Counts:
    """What became of the work of one lane.

    Attributes:
        running: Pieces at work now.
        waiting: Pieces that wait now.
        refused: Pieces that were not taken, so far.
        finished: Pieces that are over, so far.
    """

    running: int = 0
    waiting: int = 0
    refused: int = 0
    finished: int = 0


@dataclass
class _Queue:
    limits: LaneLimits
    waiting: list[Place] = field(default_factory=list)
    running: list[Place] = field(default_factory=list)
    refused: int = 0
    finished: int = 0


class Admission:
    """Grants turns to work, for any number of threads.

    Args:
        slots: Images and volumes at the same time.
        limits: Of each lane.
    """

    def __init__(self, slots: int, limits: Mapping[Lane, LaneLimits] = LIMITS) -> None:
        self.changed = threading.Condition()
        self._slots = slots
        self._queues = {lane: _Queue(limits[lane]) for lane in Lane}
        self._orders = itertools.count()
        self._costs: dict[str, float] = {}
        self._closed = False

    @property
    def is_closed(self) -> bool:
        """Whether no more work is taken."""
        return self._closed

    @property
    def capacity(self) -> int:
        """Most places that there can be at one time, over all lanes."""
        return sum(
            queue.limits.waiting + min(queue.limits.running, self._slots)
            for queue in self._queues.values()
        )

    @property
    def counts(self) -> Mapping[Lane, Counts]:
        """The state of each lane."""
        with self.changed:
            return {
                lane: Counts(len(queue.running), len(queue.waiting), queue.refused, queue.finished)
                for lane, queue in self._queues.items()
            }

    def check(self, lane: Lane) -> None:
        """Return if there is room now; nothing is taken.

        Raises:
            BusyError: If the lane is full.
            ClosedError: If the server is being stopped.
        """
        with self.changed:
            self._check(lane)

    def reserve(self, lane: Lane, key: str, *, deadline_s: float = math.inf) -> Place:
        """Return a place, at once.

        Args:
            lane: Class of the work.
            key: What work of a similar cost has in common, such as the name of the model.
            deadline_s: Seconds from now in which it must be done.

        Raises:
            BusyError: If the lane is full.
            ClosedError: If the server is being stopped.
        """
        with self.changed:
            self._check(lane)
            place = Place(self, lane, key, next(self._orders), time.monotonic() + deadline_s)
            self._queues[lane].waiting.append(place)
            self._grant()
            return place

    def await_turn(self, place: Place) -> None:
        """Wait until a place may work.

        Raises:
            CancelledError: If it is cancelled meanwhile.
            DeadlineError: If its time is over before.
        """
        with self.changed:
            while True:
                place.check()
                if place.started is not None:
                    place.started = time.monotonic()
                    return
                left_s = place.until - time.monotonic()
                self.changed.wait(None if math.isinf(left_s) else max(0.0, left_s))

    def end(self, place: Place, *, learn: bool) -> None:
        """Take a place back."""
        with self.changed:
            if place.is_over:
                return
            place.is_over = True
            queue = self._queues[place.lane]
            if place in queue.running:
                queue.running.remove(place)
                queue.finished += 1
            else:
                queue.waiting.remove(place)
            if learn and place.started is not None:
                self._learn(place.key, time.monotonic() - place.started)
            self._grant()
            self.changed.notify_all()

    def close(self) -> None:
        """Take no more work; what was taken goes on."""
        with self.changed:
            self._closed = True

    def drain(self, timeout_s: float) -> bool:
        """Wait until all work is over, and return whether it is."""
        with self.changed:
            return self.changed.wait_for(self._is_idle, timeout_s)

    def cancel_all(self) -> None:
        """Cancel all work."""
        with self.changed:
            for queue in self._queues.values():
                for place in (*queue.waiting, *queue.running):
                    place.is_cancelled = True
            self.changed.notify_all()

    def cost_s(self, key: str) -> float | None:
        """Seconds that work of this key took lately; None if there was none."""
        return self._costs.get(key)

    def _check(self, lane: Lane) -> None:
        if self._closed:
            raise ClosedError("the server is being stopped and takes no more work.")
        queue = self._queues[lane]
        wait_s = self._wait_s(lane)
        is_full = len(queue.waiting) >= queue.limits.waiting and not self._may_start(lane)
        if is_full or (wait_s > queue.limits.wait_s and not self._may_start(lane)):
            queue.refused += 1
            raise BusyError(
                f"there is no room for more work of the class {lane.name.lower()} now: "
                f"{len(queue.running)} at work, {len(queue.waiting)} waiting. Try again later.",
                retry_after_s=max(1.0, wait_s),
            )

    def _wait_s(self, lane: Lane) -> float:
        """Seconds that new work of a lane would wait, as far as is known."""
        now = time.monotonic()
        left_s = 0.0
        for other in (Lane.IMAGE, Lane.VOLUME):
            queue = self._queues[other]
            for place in queue.running:
                cost_s = self._costs.get(place.key, 0.0)
                left_s += max(0.0, cost_s - (now - (place.started or now)))
            if other <= lane:
                left_s += sum(self._costs.get(place.key, 0.0) for place in queue.waiting)
        return left_s / self._slots

    def _may_start(self, lane: Lane) -> bool:
        queue = self._queues[lane]
        busy = sum(len(self._queues[each].running) for each in (Lane.IMAGE, Lane.VOLUME))
        has_slot = lane is Lane.FRAME or busy < self._slots
        return has_slot and len(queue.running) < queue.limits.running

    def _grant(self) -> None:
        """Give free slots to those that wait, the first lane first."""
        for lane, queue in self._queues.items():
            while queue.waiting and self._may_start(lane):
                place = queue.waiting.pop(0)
                place.started = time.monotonic()
                queue.running.append(place)
        self.changed.notify_all()

    def _learn(self, key: str, seconds: float) -> None:
        if key not in self._costs and len(self._costs) >= _MOST_COSTS:
            self._costs.pop(next(iter(self._costs)))
        before = self._costs.get(key, seconds)
        self._costs[key] = before + _LEARNING_RATE * (seconds - before)

    def _is_idle(self) -> bool:
        return not any(queue.running or queue.waiting for queue in self._queues.values())
