"""Growth of a cost: interleaved times over all sizes, and their slope."""

import math
import time
from collections.abc import Callable, Sequence

import numpy as np


def shortest_interleaved(
    calls: Sequence[Callable[[], object]],
    *,
    turn_ms: float = 30.0,
    total_ms: float = 5000.0,
    rounds: int = 4,
    clock: Callable[[], float] = time.perf_counter,
) -> list[float]:
    """Shortest time of each call, all of them interleaved.

    What else the machine does falls on small and large sizes alike, instead of on those that
    happened to be measured meanwhile; and it only ever adds time, hence the shortest.

    Args:
        calls: What to time, from small to large.
        turn_ms: Time that a call is repeated for before the next one has its turn.
        total_ms: Time that rounds go on for.
        rounds: Rounds at least.
        clock: In seconds: `time.perf_counter`, or `time.process_time`, which stands still
            while another program has the core.

    Returns:
        Milliseconds of each call.

    Example:
        >>> [round(t / 5) for t in shortest_interleaved([lambda: time.sleep(0.005)], total_ms=20)]
        [1]
    """
    for call in calls:
        call()
    shortest = [math.inf] * len(calls)
    begin, done = time.perf_counter(), 0
    while done < rounds or (time.perf_counter() - begin) * 1e3 < total_ms:
        for index, call in enumerate(calls):
            spent = 0.0
            while True:
                entered, start = time.perf_counter(), clock()
                call()
                shortest[index] = min(shortest[index], (clock() - start) * 1e3)
                spent += (time.perf_counter() - entered) * 1e3
                if spent >= turn_ms:
                    break
        done += 1
    return shortest


def fit_slope(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """Slope of the line through the logarithms, by least squares: costs grow as size ** slope.

    Example:
        >>> round(fit_slope([10, 100, 1000], [3.0, 300.0, 30000.0]), 6)
        2.0
    """
    x, y = np.log(np.asarray(sizes, float)), np.log(np.asarray(costs, float))
    x = x - x.mean()
    return float((x * y).sum() / (x * x).sum())
