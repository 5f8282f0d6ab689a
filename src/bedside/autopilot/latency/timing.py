"""Interleaved timing of graphs: only what was timed together is compared.

On busy cores, wall-clock time includes waiting for a core, in steps of the scheduler. So a call of
one thread is measured by its processor time, which on an idle machine equals wall-clock time. It
excludes waiting, but not the effect of other load on caches and shared cores, so only ratios hold
on a busy machine. For several threads it is the median wall-clock time, or the shortest call where
the two are far apart.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

import numpy as np

from bedside.runtime import open_graph
from bedside.runtime.interleaved_timing import Latency, time_interleaved

_BUSY = 1.3
"""Median over shortest call from which on a machine counts as busy."""


@dataclass(frozen=True)
class Setting:
    """How a network runs when it is timed.

    Attributes:
        backend: Name of the runtime.
        precision: How it computes: "f32", "bf16" or "int8".
        threads: Threads for one call.
    """

    backend: str = "openvino"
    precision: str = "f32"
    threads: int = 1

    @property
    def key(self) -> str:
        """Its name in tables.

        Example:
            >>> Setting(threads=2).key
            'openvino f32 2'
        """
        return f"{self.backend} {self.precision} {self.threads}"


class Timed(NamedTuple):
    """A graph to be timed.

    Attributes:
        graph: Serialized ONNX.
        shape: (1, C, *S) of its input.
        setting: Runtime, precision and threads.
    """

    graph: bytes
    shape: tuple[int, ...]
    setting: Setting


Clock = Callable[[Mapping[str, Timed], float], Mapping[str, float]]
"""Times graphs, interleaved, for some seconds, in ms: `time_graphs`, or another measure of cost."""


def time_graphs(graphs: Mapping[str, Timed], total_s: float) -> dict[str, float]:
    """Time graphs, interleaved; see `correct_for_load` for which time it is.

    Args:
        graphs: What to time, by name.
        total_s: Seconds that it goes on for; each has at least 20 calls.

    Returns:
        The time of each in ms, by name.

    Raises:
        BackendError: If a runtime is not installed or cannot run a graph so.
    """
    calls, spent = {}, {}
    for name, (graph, shape, setting) in graphs.items():
        session = open_graph(
            graph, backend=setting.backend, precision=setting.precision, threads=setting.threads
        )
        image = np.random.default_rng(0).random(shape, dtype=np.float32)
        spent[name] = list[float]()
        calls[name] = _metered(lambda s=session, i=image: s.predict(i), spent[name])  # type: ignore[misc]
    clocked = time_interleaved(calls, total_s=total_s)
    processor_ms = {
        name: median(spent[name]) for name, timed in graphs.items() if timed.setting.threads == 1
    }
    return correct_for_load(clocked, processor_ms)


def correct_for_load(
    clocked: Mapping[str, Latency], processor_ms: Mapping[str, float]
) -> dict[str, float]:
    """Return one number for each graph.

    Args:
        clocked: Times on the clock.
        processor_ms: Median of processor time, of graphs that run in one thread.

    Returns:
        The processor time where there is one; else the median on the clock, or on a busy
        machine the shortest call.

    Example:
        >>> correct_for_load({"a": Latency(7.9, 12.0, 16.0, 1.2, 99)}, {"a": 1.05})
        {'a': 1.05}
        >>> correct_for_load({"a": Latency(1.1, 1.2, 1.3, 1.0, 99)}, {})
        {'a': 1.1}
        >>> correct_for_load({"a": Latency(4.0, 9.0, 9.0, 1.0, 99)}, {})
        {'a': 1.0}
    """
    busy = median(each.p50_ms / each.best_ms for each in clocked.values()) > _BUSY
    return {
        name: processor_ms.get(name, each.best_ms if busy else each.p50_ms)
        for name, each in clocked.items()
    }


def _metered(call: Callable[[], object], spent_ms: list[float]) -> Callable[[], None]:
    """Call that records its processor time."""

    def metered() -> None:
        begin = time.process_time()
        call()
        spent_ms.append((time.process_time() - begin) * 1e3)

    return metered
