"""Finds the fastest of several calls, timed in interleaved rounds until it is certain.

Other load on the machine changes the ranking: a runtime that waits for all of its threads loses
more. So calls during which a thread waited for a core are left out, the others are compared by
their lower quartile, and a bootstrap over rounds gives the intervals of the ratios.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bedside.runtime.machine import read_waited_s

# The first of the calls is preferred: another must be faster by more than this.
TIE = 1.05
# What is taken, without more certainty than this, when time is up.
CLOSE = 1.10
# Rounds before anything is believed; fewer say little of a busy machine.
MIN_ROUNDS = 8
# After so many rounds, what is always twice as slow as another takes no further part.
_LOOK_ROUNDS, _HOPELESS = 3, 2.0
# A turn begins with calls that are not counted. They find the caches full of another's
# weights, and threads of another runtime that still spin, of ONNX Runtime for some 20 ms.
_SETTLE_S = 0.025
# Counted calls of a turn, and the time after which it has had enough of them.
_CALLS, _TURN_S = 5, 0.1
# A call is left out if threads waited for more than this part of it, and these seconds.
_WAITED_PART, _WAITED_S = 0.05, 2e-5
# Slow calls may take so many times the given time, until there are enough rounds.
_STRETCH = 5.0
_DRAWS, _TAIL = 400, 1.0

Clock = Callable[[], float]


@dataclass(frozen=True)
class Timing:
    """How long one of the calls takes.

    Attributes:
        quartile_ms: Lower quartile of its rounds.
        low_ms: Lower end of the interval of that quartile, 98 % by a bootstrap over rounds.
        high_ms: Upper end.
        rounds: How many undisturbed rounds that is of; 0 if there was none, and the times are
            those of disturbed ones.
    """

    quartile_ms: float
    low_ms: float
    high_ms: float
    rounds: int


@dataclass(frozen=True)
class Fastest:
    """The result of timing several calls.

    Attributes:
        name: The call to take: the first that is as fast as any other, but for 5 %; None if
            the times did not separate.
        times: How long each took, in the order given.
    """

    name: str | None
    times: Mapping[str, Timing]


def find_fastest(
    calls: Mapping[str, Callable[[], object]],
    *,
    total_s: float,
    clock: Clock = time.perf_counter,
    waited: Clock = read_waited_s,
) -> Fastest:
    """Time calls in interleaved rounds until one is certain to be taken, or time is up.

    Args:
        calls: What to time, by name; an earlier one is taken where a later one is not more
            than 5 % faster.
        total_s: Time for the rounds. Slow calls take up to 5 times as long, until there are
            rounds enough to judge by.
        clock: Time in seconds.
        waited: Seconds that this process's threads have waited for a core so far.

    Example:
        >>> now = [0.0]
        >>> def take(seconds):
        ...     now[0] += seconds
        >>> calls = {"slow": lambda: take(0.02), "fast": lambda: take(0.01)}
        >>> find_fastest(calls, total_s=2, clock=lambda: now[0], waited=lambda: 0.0).name
        'fast'
    """
    spans: dict[str, list[float]] = {name: [] for name in calls}
    disturbed: dict[str, list[float]] = {name: [] for name in calls}
    running, turns, look, begin = list(calls), 0, MIN_ROUNDS, clock()
    chosen: str | None = running[0] if len(running) == 1 else None
    late = False
    while chosen is None and not late:
        taken = {name: _take_turn(calls[name], clock, waited) for name in _order(running, turns)}
        turns += 1
        kept = spans if all(clean for _, clean in taken.values()) else disturbed
        for name, (span, _) in taken.items():
            kept[name].append(span)
        rounds = len(spans[running[0]])
        # Slow calls are waited for; a machine that is too busy for any round is not.
        slow = rounds < MIN_ROUNDS and rounds > turns / 2
        late = clock() - begin > total_s * (_STRETCH if slow else 1)
        if rounds == _LOOK_ROUNDS:
            running = _drop_hopeless(running, spans)
        if rounds >= look or (late and rounds >= MIN_ROUNDS):
            # Each look is another chance to err: they become rarer.
            look = rounds + max(2, rounds // 3)
            chosen = _judge(running, spans, limit=CLOSE if late else TIE)
    times = {
        name: _sum_up(spans[name] or disturbed[name], rounds=len(spans[name]))
        for name in calls
        if turns
    }
    return Fastest(chosen, times)


def _order(names: Sequence[str], rounds: int) -> Sequence[str]:
    """Return the order of a round: every other one is reversed."""
    return names if rounds % 2 == 0 else names[::-1]


def _take_turn(call: Callable[[], object], clock: Clock, waited: Clock) -> tuple[float, bool]:
    """Time some calls after some that are not counted.

    Returns:
        The lower quartile in ms of those in which no thread waited for a core, and True; or
        that of all, and False if there was none.
    """
    begin = clock()
    call()
    while clock() - begin < _SETTLE_S:
        call()
    clean: list[float] = []
    others: list[float] = []
    begin = clock()
    while len(clean) < _CALLS:
        before, start = waited(), clock()
        call()
        span_s = clock() - start
        quiet = waited() - before <= _WAITED_PART * span_s + _WAITED_S
        (clean if quiet else others).append(span_s * 1e3)
        if clock() - begin >= _TURN_S:
            break
    return float(np.percentile(clean or others, 25)), bool(clean)


def _drop_hopeless(running: Sequence[str], spans: Mapping[str, list[float]]) -> list[str]:
    """Drop calls whose best round took twice as long as the worst one of another."""
    bound = _HOPELESS * min(max(spans[name]) for name in running)
    return [name for name in running if min(spans[name]) <= bound]


def _judge(running: Sequence[str], spans: Mapping[str, list[float]], *, limit: float) -> str | None:
    """Return the first call that is certain to be within a limit of the fastest.

    A later one is only taken if all before it are certain to be beyond.
    """
    if len(running) == 1:
        return running[0]
    quartiles = _draw_quartiles(np.array([spans[name] for name in running]))
    for index, name in enumerate(running):
        others = np.delete(quartiles, index, axis=0).min(axis=0)
        low, high = np.percentile(quartiles[index] / others, (_TAIL, 100 - _TAIL))
        if high <= limit:
            return name
        if low <= limit:
            return None
    return None


def _draw_quartiles(times: np.ndarray) -> np.ndarray:
    """Lower quartiles of (calls, rounds) times for rounds drawn with replacement, (calls, draws).

    The draws are the same every time, and all calls of a round are drawn together.
    """
    rounds = times.shape[1]
    drawn = np.random.default_rng(0).integers(rounds, size=(_DRAWS, rounds))
    return np.asarray(np.percentile(times[:, drawn], 25, axis=2))


def _sum_up(times_ms: Sequence[float], *, rounds: int) -> Timing:
    quartiles = _draw_quartiles(np.array([times_ms]))[0]
    low, high = np.percentile(quartiles, (_TAIL, 100 - _TAIL))
    return Timing(float(np.percentile(times_ms, 25)), float(low), float(high), rounds)
