"""Opens a session of a bundle: backend, precision, threads."""

import os
from collections.abc import Callable

from bedside.bundle import Bundle
from bedside.errors import UsageError
from bedside.runtime.autotune import open_fastest
from bedside.runtime.contract import Session
from bedside.runtime.execution_modes import default_mode, find_certified_backend, open_mode
from bedside.runtime.table import list_precisions

__all__ = [
    "Session",
    "count_cores",
    "default_threads",
    "open_session",
]

# Bedside networks take milliseconds; more threads spend more on waiting for each other.
MAX_DEFAULT_THREADS = 4


def open_session(
    bundle: Bundle,
    *,
    backend: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    on_choice: Callable[[str], None] = lambda text: None,
) -> Session:
    """Open the graph of a bundle, ready to run.

    With "auto" the backends and precisions that the card certifies are timed at the first
    use on a machine, and the fastest is remembered. With "default" nothing is timed, and the
    same processor always takes the same one. Neither ever takes one without a certificate of
    its own, but for f32 where nothing that is installed has one; see `certificate_warnings`.

    Args:
        bundle: A bundle that has been read.
        backend: "auto" for any that is installed, or a name in the table.
        precision: "auto" for the fastest that the card certifies, "default" for the one that
            is the fastest as a rule, or a name such as f32, bf16 or int8.
        threads: Threads for one call; None for `default_threads()`.
        on_choice: Called with a sentence that says what was chosen, if something was timed.

    Raises:
        UsageError: If backend, precision or threads cannot mean anything, or the bundle
            has no such graph.
        BackendError: If the backend is not installed, or cannot compute so here.
    """
    if precision not in ("auto", "default", *list_precisions()):
        raise UsageError(
            f'no precision "{precision}"; choose one of auto, default, '
            f"{', '.join(list_precisions())}."
            + (' What was "rule" is "default" now.' if precision == "rule" else "")
        )
    if threads is None:
        threads = default_threads()
    if isinstance(threads, bool) or not hasattr(threads, "__index__") or threads < 1:
        raise UsageError(f"threads is {threads!r}; expected a whole number from 1.")
    threads = int(threads)
    if precision == "auto":
        return open_fastest(bundle, backend=backend, threads=threads, on_choice=on_choice)
    if precision == "default":
        chosen = default_mode(bundle, backend=backend)
    else:
        chosen = (find_certified_backend(bundle, precision, backend=backend), precision)
    return open_mode(bundle, chosen, threads=threads)


def default_threads() -> int:
    """Return the cores that this process may use, at most 4."""
    return min(count_cores(), MAX_DEFAULT_THREADS)


def count_cores() -> int:
    """Return the number of cores that this process may use.

    The affinity counts, not the host's cores, so that a pinned container is right.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
