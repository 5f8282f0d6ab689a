"""Admission: who may work now, who waits, who is refused at once.

Work is in three lanes: live streams, which never wait, before images before volumes. Each lane runs
and queues a bounded number, and takes nothing that would wait longer than is allowed, as far as the
measured cost of earlier work tells: in seconds, and compared with what the same work takes alone.
So a refusal needs no work, no queue grows, and what is taken is answered in a time that is known.
"""

import enum
import heapq
import itertools
import math
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType, TracebackType

from bedside.errors import BusyError, CancelledError, ClosedError, DeadlineError

_LEARNING_RATE, _OVERDUE = 0.2, 0.25
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
        stretch: So is work that would have to wait and would then be done later than this many
            times what such work takes when nothing else runs.
    """

    running: int
    waiting: int
    wait_s: float
    stretch: float = math.inf


# Costs are averages. For 99 of 100 images to be done within twice what one takes alone, those that
# wait are taken if they are done within this by the averages.
_STRETCH = 1.7

LIMITS: Mapping[Lane, LaneLimits] = MappingProxyType({
    Lane.FRAME: LaneLimits(running=2, waiting=0, wait_s=0.0),
    Lane.IMAGE: LaneLimits(running=64, waiting=1, wait_s=5.0, stretch=_STRETCH),
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
        was_alone: Whether nothing else has run beside it.
    """

    admission: "Admission"
    lane: Lane
    key: str
    order: int
    until: float
    is_cancelled: bool = False
    started: float | None = None
    is_over: bool = False
    was_alone: bool = False

    def cancel(self) -> None:
        """Abandon the work, from any thread: its next `check` or its waiting raises."""
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
        """Return the place; a second time changes nothing."""
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
        """Return the place, and remember what the work took if it succeeded."""
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
class _Cost:
    """Seconds that work of one key took, averaged.

    Attributes:
        lately: Whatever ran beside it.
        alone: When nothing else did; None if that was never seen.
    """

    lately: float
    alone: float | None = None

    def learn(self, seconds: float, *, was_alone: bool) -> None:
        self.lately += _LEARNING_RATE * (seconds - self.lately)
        if was_alone:
            before = seconds if self.alone is None else self.alone
            self.alone = before + _LEARNING_RATE * (seconds - before)


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
        self._costs: dict[str, _Cost] = {}
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

    def check(self, lane: Lane, key: str) -> None:
        """Return if there is room now; nothing is taken.

        Args:
            lane: Class of the work.
            key: As for `reserve`.

        Raises:
            BusyError: If the lane is full.
            ClosedError: If the server is being stopped.
        """
        with self.changed:
            self._check(lane, key)

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
            self._check(lane, key)
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
                self._learn(place, time.monotonic() - place.started)
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
        return self._costs[key].lately if key in self._costs else None

    def _check(self, lane: Lane, key: str) -> None:
        if self._closed:
            raise ClosedError("the server is being stopped and takes no more work.")
        if self._may_start(lane):
            return
        queue, wait_s = self._queues[lane], self._wait_s(lane)
        is_full = len(queue.waiting) >= queue.limits.waiting
        if is_full or wait_s > self._longest_wait_s(queue.limits, key):
            queue.refused += 1
            raise BusyError(
                f"there is no room for more work of the class {lane.name.lower()} now: "
                f"{len(queue.running)} at work, {len(queue.waiting)} waiting. Try again later.",
                retry_after_s=max(1.0, wait_s),
            )

    def _longest_wait_s(self, limits: LaneLimits, key: str) -> float:
        """Seconds that new work may wait."""
        cost = self._costs.get(key)
        if cost is None or cost.alone is None:
            return limits.wait_s
        return min(limits.wait_s, limits.stretch * cost.alone - cost.lately)

    def _wait_s(self, lane: Lane) -> float:
        """Seconds that new work of a lane would wait, as far as is known."""
        now = time.monotonic()
        running = (*self._queues[Lane.IMAGE].running, *self._queues[Lane.VOLUME].running)
        # When each slot will be free.
        free = [self._left_s(place, now) for place in running]
        own_s = sum(left_s for left_s, each in zip(free, running, strict=True) if each.lane is lane)
        free += [0.0] * (self._slots - len(free))
        heapq.heapify(free)
        for other in (Lane.IMAGE, Lane.VOLUME):
            for place in self._queues[other].waiting if other <= lane else ():
                heapq.heappush(free, heapq.heappop(free) + self._known_s(place))
        queue = self._queues[lane]
        own_s += sum(map(self._known_s, queue.waiting))
        # A lane that may not take all slots waits for its own.
        return max(free[0], own_s / queue.limits.running if queue.limits.running < self._slots
                   else 0.0)  # fmt: skip

    def _left_s(self, place: Place, now: float) -> float:
        """Seconds that work in progress still takes; what is overdue may well take longer yet."""
        known_s = self._known_s(place)
        return max(_OVERDUE * known_s, known_s - (now - (place.started or now)))

    def _known_s(self, place: Place) -> float:
        return self.cost_s(place.key) or 0.0

    def _may_start(self, lane: Lane) -> bool:
        queue = self._queues[lane]
        busy = sum(len(self._queues[each].running) for each in (Lane.IMAGE, Lane.VOLUME))
        has_slot = lane is Lane.FRAME or busy < self._slots
        return has_slot and len(queue.running) < queue.limits.running

    def _grant(self) -> None:
        """Assign free slots to those that wait, the first lane first."""
        for lane, queue in self._queues.items():
            while queue.waiting and self._may_start(lane):
                place = queue.waiting.pop(0)
                self._begin(place, queue)
        self.changed.notify_all()

    def _begin(self, place: Place, queue: _Queue) -> None:
        """Assign a slot to a place; those that run are no longer alone."""
        beside = [each for other in self._queues.values() for each in other.running]
        for each in beside:
            each.was_alone = False
        place.started, place.was_alone = time.monotonic(), not beside
        queue.running.append(place)

    def _learn(self, place: Place, seconds: float) -> None:
        cost = self._costs.get(place.key)
        if cost is None:
            if len(self._costs) >= _MOST_COSTS:
                self._costs.pop(next(iter(self._costs)))
            cost = self._costs[place.key] = _Cost(seconds)
        cost.learn(seconds, was_alone=place.was_alone)

    def _is_idle(self) -> bool:
        return not any(queue.running or queue.waiting for queue in self._queues.values())
