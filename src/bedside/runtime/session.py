"""From a bundle to a session: which backend, which precision, how many threads."""

import os
import platform
from pathlib import Path

from bedside.bundle import Bundle
from bedside.errors import UsageError
from bedside.runtime.table import Session, find_backend, open_graph

__all__ = [
    "Session",
    "choose_precision",
    "count_cores",
    "default_threads",
    "has_int8_products",
    "open_session",
]

# Bedside networks take milliseconds; more threads spend more on waiting for each other.
MAX_DEFAULT_THREADS = 4
PRECISIONS = ("f32", "bf16", "int8")
# How /proc/cpuinfo calls instructions that sum products of bytes without saturating.
_INT8_FLAGS = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp"})
# Graph that a precision computes: bf16 is the f32 graph, rounded as it runs.
_GRAPH_OF = {"f32": "f32", "bf16": "f32", "int8": "int8"}


def open_session(
    bundle: Bundle, *, backend: str = "auto", precision: str = "auto", threads: int | None = None
) -> Session:
    """Open the graph of a bundle, ready to run.

    Args:
        bundle: A bundle that has been read.
        backend: "auto" for the first installed one, or a name in the table.
        precision: "auto" for the fastest that the card vouches for, or one of f32, bf16
            and int8.
        threads: Threads for one call; None for `default_threads()`.

    Raises:
        UsageError: If backend, precision or threads cannot mean anything, or the bundle
            has no such graph.
        BackendError: If the backend is not installed, or cannot compute so here.
    """
    if precision not in ("auto", *PRECISIONS):
        raise UsageError(
            f'no precision "{precision}"; choose one of auto, {", ".join(PRECISIONS)}.'
        )
    if threads is not None and threads < 1:
        raise UsageError(f"threads is {threads}; expected at least 1.")
    chosen = find_backend(backend)
    if precision == "auto":
        native = chosen.load().native_precisions()
        faster = tuple(name for name in chosen.faster_than_f32 if name in native)
        precision = choose_precision(bundle, faster=faster, int8_products=has_int8_products())
    if _GRAPH_OF[precision] not in bundle.precisions:
        raise UsageError(
            f'{bundle.path} has no graph in "{precision}"; '
            f"it has {', '.join(bundle.precisions)}. Leave the choice to auto."
        )
    return open_graph(
        bundle.read_graph(_GRAPH_OF[precision]),
        backend=chosen.name,
        precision=precision,
        threads=threads or default_threads(),
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


def has_int8_products(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Tell whether the processor sums products of bytes without saturating.

    Known on Linux, and on Apple's processors, which all do; elsewhere the answer is no.

    Args:
        cpuinfo: Where Linux describes its processors.
    """
    if platform.system() == "Darwin":
        return platform.machine() == "arm64"
    try:
        lines = cpuinfo.read_text(errors="replace").splitlines()
    except OSError:
        return False
    flags = (line.partition(":") for line in lines)
    listed = (value for name, _, value in flags if name.strip().lower() in ("flags", "features"))
    return not _INT8_FLAGS.isdisjoint(next(listed, "").split())
