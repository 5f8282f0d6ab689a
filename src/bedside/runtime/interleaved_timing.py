"""Times several calls in turns, so that other load on the machine affects all alike."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Latency:
    """How long one call takes.

    Attributes:
        p50_ms: Median.
        p95_ms: 95th percentile.
        p99_ms: 99th percentile.
        best_ms: The shortest; what else a machine does only ever adds time.
        calls: How many were timed.
    """

    p50_ms: float
    p95_ms: float
    p99_ms: float
    best_ms: float
    calls: int


def time_interleaved(
    calls: Mapping[str, Callable[[], object]],
    *,
    total_s: float,
    calls_a_turn: int = 5,
    rounds: int = 4,
    warm_up: int = 3,
) -> dict[str, Latency]:
    """Time calls in turns of a few each, round after round.

    The first call of a turn is not counted: it finds the caches full of another's weights,
    as no call of a cine does.

    Args:
        calls: What to time, by name.
        total_s: Time that rounds go on for.
        calls_a_turn: Counted calls of one before the next has its turn.
        rounds: Rounds at least.
        warm_up: Calls of each before anything is timed.

    Returns:
        The times of each, by name.

    Example:
        >>> times = time_interleaved({"nap": lambda: time.sleep(0.002)}, total_s=0.02)
        >>> times["nap"].calls >= 20 and times["nap"].best_ms >= 2
        True
    """
    for call in calls.values():
        for _ in range(warm_up):
            call()
    spans: dict[str, list[float]] = {name: [] for name in calls}
    begin, done = time.perf_counter(), 0
    while done < rounds or time.perf_counter() - begin < total_s:
        for name, call in calls.items():
            call()
            for _ in range(calls_a_turn):
                start = time.perf_counter()
                call()
                spans[name].append((time.perf_counter() - start) * 1e3)
        done += 1
    return {name: _sum_up(times) for name, times in spans.items()}


def _sum_up(times_ms: list[float]) -> Latency:
    p50, p95, p99 = (float(value) for value in np.percentile(times_ms, (50, 95, 99)))
    return Latency(p50, p95, p99, min(times_ms), len(times_ms))
