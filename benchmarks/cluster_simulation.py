"""A discrete-event simulation of a batch on many machines: pure functions, no clock but its own.

As `bedside.batch` works: a head reads the manifest, checks each of its cases, starts its workers
one after the other, and hands a case to each that is free. Each worker loads the bundle, then
reads, computes and writes one case after another. Shards are heads with lists and workers of
their own. What all share is the store: its bandwidth and its operations on names.
"""

import heapq
import math
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

Then = Callable[[], None]

MAX_ATTEMPTS = 2
"""As in `bedside.batch.supervise`: a case that loses two workers is given up."""


@dataclass(frozen=True)
class CaseCost:
    """What one case costs.

    Attributes:
        compute_s: Seconds of its worker, without waiting for the store.
        read_mb: What it reads, in MB.
        write_mb: What it writes, in MB.
    """

    compute_s: float
    read_mb: float = 0.0
    write_mb: float = 0.0


@dataclass(frozen=True)
class HeadCost:
    """Seconds of a head, which does one thing at a time.

    Attributes:
        line_s: Per line of the whole manifest, which each head reads.
        plan_s: Per case of its own, before the first worker starts.
        spawn_s: Per worker started.
        event_s: Per message of a worker: a record is taken and the next case handed out.
        event_per_worker_s: More for each worker that it has.
        end_s: Per case of its own, when the list is written at the end.
    """

    line_s: float = 0.0
    plan_s: float = 0.0
    spawn_s: float = 0.0
    event_s: float = 0.0
    event_per_worker_s: float = 0.0
    end_s: float = 0.0


@dataclass(frozen=True)
class Cluster:
    """Machines, store and luck.

    Attributes:
        workers: How many, all heads together.
        heads: How many shards, each with its share of workers and cases.
        head: What a head costs.
        load_s: From the start of a worker until its bundle is loaded.
        bundle_mb: Read by each worker.
        manifest_mb: Read by each head.
        link_mb_s: Bandwidth of one worker.
        store_mb_s: Bandwidth of the store.
        case_operations: Operations on names of files that a case takes.
        link_operations_s: Of those, how many one worker does in a second.
        store_operations_s: And how many the store does.
        mtbf_h: Mean hours between losses of one worker.
        slow_share: Share of workers that are slow.
        slow_factor: How many times slower they are.
    """

    workers: int
    heads: int = 1
    head: HeadCost = HeadCost()
    load_s: float = 0.0
    bundle_mb: float = 0.0
    manifest_mb: float = 0.0
    link_mb_s: float = math.inf
    store_mb_s: float = math.inf
    case_operations: float = 0.0
    link_operations_s: float = math.inf
    store_operations_s: float = math.inf
    mtbf_h: float = math.inf
    slow_share: float = 0.0
    slow_factor: float = 1.0


@dataclass
class Outcome:
    """What a batch took.

    Attributes:
        seconds: From its start until the last list is written.
        computed_s: Worker seconds spent on cases, those lost included.
        held_s: Worker seconds that were reserved: each head's workers until its end.
        read_mb: Read from the store, bundles and manifests included.
        written_mb: Written to it.
        last_handed_s: When the last case was handed out.
        head_busy_s: Seconds that the busiest head worked.
        retried: Cases that lost a worker and ran again.
        given_up: Cases that lost two.
        done: Times each case was completed, in their order.
    """

    seconds: float = 0.0
    computed_s: float = 0.0
    held_s: float = 0.0
    read_mb: float = 0.0
    written_mb: float = 0.0
    last_handed_s: float = 0.0
    head_busy_s: float = 0.0
    retried: int = 0
    given_up: int = 0
    done: list[int] = field(default_factory=list)


class Clock:
    """Runs what is due, in order."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Then]] = []
        self._number = 0

    def at(self, time_s: float, then: Then) -> None:
        """Plan something."""
        self._number += 1
        heapq.heappush(self._due, (time_s, self._number, then))

    def run(self) -> None:
        """Run until nothing is planned."""
        while self._due:
            self.now, _, then = heapq.heappop(self._due)
            then()


class SharedRate:
    """A rate that its users share evenly, each up to a limit of its own.

    Args:
        clock: The clock.
        total: Amount per second of all together.
        each: Amount per second of one.
    """

    def __init__(self, clock: Clock, total: float, each: float) -> None:
        self._clock, self._total, self._each = clock, total, each
        # What a user who had always been here would have got; each leaves at its own mark.
        self._given, self._since = 0.0, 0.0
        self._users: list[tuple[float, int, Then]] = []
        self._number = 0

    def take(self, amount: float, then: Then) -> None:
        """Take an amount, however long that needs, then go on."""
        if amount <= 0 or math.isinf(min(self._total, self._each)):
            self._clock.at(self._clock.now, then)
            return
        self._catch_up()
        self._number += 1
        heapq.heappush(self._users, (self._given + amount, self._number, then))
        self._plan()

    def _rate(self) -> float:
        return min(self._each, self._total / len(self._users))

    def _catch_up(self) -> None:
        if self._users:
            self._given += self._rate() * (self._clock.now - self._since)
        self._since = self._clock.now

    def _plan(self) -> None:
        """Plan the next departure; one planned earlier is void by then."""
        if not self._users:
            return
        self._number += 1
        version, mark = self._number, self._users[0][0]
        left_s = max(0.0, mark - self._given) / self._rate()

        def leave() -> None:
            if version != self._number:
                return
            self._catch_up()
            self._given = mark
            gone = []
            while self._users and self._users[0][0] <= mark:
                gone.append(heapq.heappop(self._users)[2])
            self._plan()
            for then in gone:
                then()

        self._clock.at(self._clock.now + left_s, leave)


class _Head:
    """One head, its cases and its workers."""

    def __init__(self, run: "_Run", numbers: Sequence[int], workers: int) -> None:
        self._run, self._waiting = run, deque((number, 1) for number in numbers)
        self._own, self._workers, self._live = len(numbers), workers, 0
        self._free_at, self.busy_s = 0.0, 0.0

    def start(self) -> None:
        """Read the manifest, check the cases, start workers."""
        run, cost = self._run, self._run.cluster.head
        plan_s = len(run.cases) * cost.line_s + self._own * cost.plan_s
        run.outcome.read_mb += run.cluster.manifest_mb
        run.network.take(run.cluster.manifest_mb, lambda: self._work(plan_s, self._spawn_all))

    def _work(self, seconds: float, then: Then) -> None:
        """Do something when all before is done."""
        self._free_at = max(self._free_at, self._run.clock.now) + seconds
        self.busy_s += seconds
        self._run.clock.at(self._free_at, then)

    def _spawn_all(self) -> None:
        for _ in range(min(self._workers, self._own)):
            self._spawn()
        if not self._own:
            self._end()

    def _spawn(self) -> None:
        run, cluster = self._run, self._run.cluster
        slow = run.chance.random() < cluster.slow_share
        factor = cluster.slow_factor if slow else 1.0
        self._live += 1
        run.outcome.read_mb += cluster.bundle_mb

        def load() -> None:
            run.network.take(
                cluster.bundle_mb,
                lambda: run.clock.at(run.clock.now + cluster.load_s * factor, ready),
            )

        def ready() -> None:
            self._hear(lambda: self._hand_out(factor))

        self._work(cluster.head.spawn_s, load)

    def _hear(self, then: Then) -> None:
        """Take a message of a worker."""
        cost = self._run.cluster.head
        self._work(cost.event_s + cost.event_per_worker_s * self._live, then)

    def _hand_out(self, factor: float) -> None:
        """Hand the next case to a worker, or let it go."""
        if self._waiting:
            self._run.outcome.last_handed_s = self._run.clock.now
            self._begin(*self._waiting.popleft(), factor)
        else:
            self._live -= 1
            if not self._live:
                self._end()

    def _begin(self, number: int, attempt: int, factor: float) -> None:
        """Names, then what is read, then the work, which a loss may end early."""
        run, case = self._run, self._run.cases[number]
        compute_s = case.compute_s * factor
        lost_after_s = run.draw_loss_s()
        run.outcome.read_mb += case.read_mb

        def compute() -> None:
            ends = finish if compute_s <= lost_after_s else lose
            spent_s = min(compute_s, lost_after_s)
            run.outcome.computed_s += spent_s
            run.clock.at(run.clock.now + spent_s, ends)

        def finish() -> None:
            run.outcome.written_mb += case.write_mb
            run.network.take(case.write_mb, report)

        def report() -> None:
            run.outcome.done[number] += 1
            self._hear(lambda: self._hand_out(factor))

        def lose() -> None:
            self._hear(lambda: self._replace(number, attempt))

        def read() -> None:
            run.network.take(case.read_mb, compute)

        run.names.take(run.cluster.case_operations, read)

    def _replace(self, number: int, attempt: int) -> None:
        """Put the case of a lost worker first, and start another worker."""
        if attempt < MAX_ATTEMPTS:
            self._run.outcome.retried += 1
            self._waiting.appendleft((number, attempt + 1))
        else:
            self._run.outcome.given_up += 1
        self._live -= 1
        if self._waiting:
            self._spawn()
        elif not self._live:
            self._end()

    def _end(self) -> None:
        def note() -> None:
            self._run.outcome.held_s += self._workers * self._run.clock.now

        self._work(self._own * self._run.cluster.head.end_s, note)


class _Run:
    """All heads and what they share."""

    def __init__(self, cases: Sequence[CaseCost], cluster: Cluster, seed: int) -> None:
        self.cases, self.cluster, self.chance = cases, cluster, random.Random(seed)
        self.outcome = Outcome(done=[0] * len(cases))
        self.clock = Clock()
        self.network = SharedRate(self.clock, cluster.store_mb_s, cluster.link_mb_s)
        self.names = SharedRate(
            self.clock, cluster.store_operations_s, cluster.link_operations_s
        )  # fmt: skip

    def draw_loss_s(self) -> float:
        """Seconds until a worker is lost."""
        mtbf_h = self.cluster.mtbf_h
        return math.inf if math.isinf(mtbf_h) else self.chance.expovariate(1 / (mtbf_h * 3600))


def simulate(cases: Sequence[CaseCost], cluster: Cluster, *, seed: int = 0) -> Outcome:
    """Run a batch in simulated time.

    Args:
        cases: What each costs, in the order of the manifest.
        cluster: What they run on.
        seed: Of losses and slow workers.

    Raises:
        ValueError: If there are fewer workers than heads.

    Example:
        >>> simulate([CaseCost(2.0)] * 5, Cluster(workers=2, load_s=1.0)).seconds
        7.0
    """
    if not 1 <= cluster.heads <= cluster.workers:
        raise ValueError(f"{cluster.heads} heads for {cluster.workers} workers")
    run = _Run(cases, cluster, seed)
    heads = [
        _Head(
            run,
            range(number, len(cases), cluster.heads),
            len(range(number, cluster.workers, cluster.heads)),
        )
        for number in range(cluster.heads)
    ]
    for head in heads:
        head.start()
    run.clock.run()
    run.outcome.seconds = run.clock.now
    run.outcome.head_busy_s = max(head.busy_s for head in heads)
    return run.outcome


def draw_cases(measured: Sequence[CaseCost], count: int, *, seed: int = 0) -> list[CaseCost]:
    """Draw cases from measured ones, each as often as any other in expectation."""
    return random.Random(seed).choices(measured, k=count)
