"""From a bundle to a session: which backend, which precision, how many threads."""

import os
from collections.abc import Callable

from bedside.bundle import Bundle
from bedside.errors import UsageError
from bedside.runtime.choice import open_fastest
from bedside.runtime.table import Session, find_backend, open_graph
from bedside.runtime.variants import GRAPH_OF, certified_variants, has_int8_products

__all__ = [
    "Session",
    "choose_precision",
    "count_cores",
    "default_threads",
    "open_session",
]

# Bedside networks take milliseconds; more threads spend more on waiting for each other.
MAX_DEFAULT_THREADS = 4
PRECISIONS = ("f32", "bf16", "int8")


def open_session(
    bundle: Bundle,
    *,
    backend: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    on_choice: Callable[[str], None] = lambda text: None,
) -> Session:
    """Open the graph of a bundle, ready to run.

    With "auto" the runtimes and precisions that the card vouches for are timed at the first
    use on a machine, within about a second, and the fastest is remembered. With "rule"
    nothing is timed, and the same processor always takes the same one.

    Args:
        bundle: A bundle that has been read.
        backend: "auto", or a name in the table. "auto" is any that is installed where they
            are timed, and else the first one.
        precision: "auto" for the fastest that the card vouches for, "rule" for the one that
            is the fastest as a rule, or one of f32, bf16 and int8.
        threads: Threads for one call; None for `default_threads()`.
        on_choice: Called with a sentence that says what was chosen, if something was timed.

    Raises:
        UsageError: If backend, precision or threads cannot mean anything, or the bundle
            has no such graph.
        BackendError: If the backend is not installed, or cannot compute so here.
    """
    if precision not in ("auto", "rule", *PRECISIONS):
        raise UsageError(
            f'no precision "{precision}"; choose one of auto, rule, {", ".join(PRECISIONS)}.'
        )
    if threads is not None and threads < 1:
        raise UsageError(f"threads is {threads}; expected at least 1.")
    threads = threads or default_threads()
    chosen = find_backend(backend)
    if precision in ("auto", "rule"):
        timed = precision == "auto"
        native = chosen.load().native_precisions()
        faster = tuple(name for name in chosen.faster_than_f32 if name in native)
        precision = choose_precision(bundle, faster=faster, int8_products=has_int8_products())
        variants = certified_variants(bundle, backend=backend) if timed else ()
        if len(variants) > 1:
            expected = (chosen.name, precision)
            return open_fastest(
                bundle, variants, expected=expected, threads=threads, on_choice=on_choice
            )
    if GRAPH_OF[precision] not in bundle.precisions:
        raise UsageError(
            f'{bundle.path} has no graph in "{precision}"; '
            f"it has {', '.join(bundle.precisions)}. Leave the choice to auto."
        )
    return open_graph(
        bundle.read_graph(GRAPH_OF[precision]),
        backend=chosen.name,
        precision=precision,
        threads=threads,
    )


def choose_precision(bundle: Bundle, *, faster: tuple[str, ...], int8_products: bool) -> str:
    """Choose the fastest precision that this processor has and that the card vouches for.

    Without instructions that sum products of bytes, int8 can saturate and is not faster,
    so it is then left to those who ask for it.

    Args:
        bundle: Its graphs and its card.
        faster: Precisions in which the backend beats f32 on this processor, fastest first.
        int8_products: Whether the processor sums products of bytes without saturating.
    """
    verdicts = {result.precision: result.passed for result in bundle.card.precisions}
    vouched = {
        "bf16": verdicts.get("bf16", False),
        "int8": verdicts.get("int8", False) and "int8" in bundle.precisions and int8_products,
    }
    return next((precision for precision in faster if vouched[precision]), "f32")


def default_threads() -> int:
    """Count the cores that this process may use, up to what such networks gain by."""
    return min(count_cores(), MAX_DEFAULT_THREADS)


def count_cores() -> int:
    """Count the cores that this process may use.

    The affinity counts, not the host's cores, so that a pinned container is right.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
