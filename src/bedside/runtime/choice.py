"""At first use on a machine, the ways to run a bundle are timed and the fastest is remembered.

What is fastest depends on the processor in ways that no rule knows. Only ways that the card
vouches for take part. The memory is a small file in the user's cache: without it, or when it
is damaged, they are timed again.
"""

import contextlib
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from bedside.atomic import write_text
from bedside.bundle import Bundle
from bedside.errors import BackendError, InputError, OutputError
from bedside.runtime.machine import fingerprint
from bedside.runtime.table import Session, open_graph
from bedside.runtime.turns import time_in_turns
from bedside.runtime.variants import GRAPH_OF, Variant

BUDGET_S = 1.0
# Another way must be faster than what the rule expects by so much: less is chance.
_WORTH = 0.95
# On a busy machine not every way is opened in time; so often it is tried again.
_MOST_ATTEMPTS = 3
_SCHEMA_VERSION = 1

Timer = Callable[[Mapping[str, Callable[[], object]], float], dict[str, float]]


def open_fastest(
    bundle: Bundle,
    variants: Sequence[Variant],
    *,
    expected: Variant,
    threads: int,
    on_choice: Callable[[str], None] = lambda text: None,
    timer: Timer | None = None,
) -> Session:
    """Open the fastest way to run a bundle here, timing them if that is not known yet.

    Args:
        bundle: What to run.
        variants: The ways that may be chosen.
        expected: The one that is the fastest as a rule; kept if no other is clearly faster.
        threads: Threads for one call.
        on_choice: Called with a sentence once something has been timed.
        timer: Gives milliseconds of each call within some seconds; None for the clock.

    Raises:
        BackendError: If `expected` cannot be opened.
    """
    memory = _memory(bundle, variants, threads)
    remembered, attempts = _recall(memory, variants)
    if remembered is not None and attempts >= _MOST_ATTEMPTS:
        with contextlib.suppress(BackendError):
            return _open(bundle, remembered, threads)
    begin = time.perf_counter()
    sessions = _open_all(bundle, variants, expected, threads)
    left_s = max(0.0, BUDGET_S - (time.perf_counter() - begin))
    spec = bundle.spec
    tensor = np.random.default_rng(0).random(
        (1, spec.input.channels, *spec.input.size_px), np.float32
    )
    calls = {_name(v): partial(session.predict, tensor) for v, session in sessions.items()}
    times_ms = (timer or time_variants)(calls, left_s) if len(calls) > 1 else {}
    best = min(times_ms, key=lambda name: times_ms[name], default=_name(expected))
    if times_ms and times_ms[best] > _WORTH * times_ms[_name(expected)]:
        best = _name(expected)
    chosen = next(variant for variant in sessions if _name(variant) == best)
    complete = len(times_ms) == len(variants)
    kept = _remember(
        memory, chosen, times_ms, attempts=_MOST_ATTEMPTS if complete else attempts + 1
    )
    if times_ms:
        on_choice(_say(bundle, chosen, times_ms, memory if kept else None))
    return sessions[chosen]


def time_variants(calls: Mapping[str, Callable[[], object]], total_s: float) -> dict[str, float]:
    """Time calls in turns: the shortest of each in ms, to which other work only ever adds."""
    times = time_in_turns(calls, total_s=total_s, calls_a_turn=2, rounds=1, warm_up=1)
    return {name: latency.best_ms for name, latency in times.items()}


def cache_folder() -> Path:
    """Where choices are remembered: below XDG_CACHE_HOME, or ~/.cache."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "bedside"


def _open_all(
    bundle: Bundle, variants: Sequence[Variant], expected: Variant, threads: int
) -> dict[Variant, Session]:
    """Open the expected way, and others while half the time is not yet spent on opening."""
    sessions = {expected: _open(bundle, expected, threads)}
    begin = time.perf_counter()
    for variant in variants:
        if variant in sessions or time.perf_counter() - begin > BUDGET_S / 2:
            continue
        with contextlib.suppress(BackendError, InputError):
            sessions[variant] = _open(bundle, variant, threads)
    return sessions


def _open(bundle: Bundle, variant: Variant, threads: int) -> Session:
    backend, precision = variant
    graph = bundle.read_graph(GRAPH_OF[precision])
    return open_graph(graph, backend=backend, precision=precision, threads=threads)


def _name(variant: Variant) -> str:
    return " ".join(variant)


def _memory(bundle: Bundle, variants: Sequence[Variant], threads: int) -> Path:
    """Name the file for this bundle, machine, number of threads, and range of choice."""
    backends = "-".join(dict.fromkeys(backend for backend, _ in variants))
    key = f"{bundle.sha256[:16]}-{fingerprint()}-{threads}-{backends}"
    return cache_folder() / "choices" / f"{key}.json"


def _recall(memory: Path, variants: Sequence[Variant]) -> tuple[Variant | None, int]:
    """Read what was chosen before, and how often that was tried; None if it cannot be now."""
    try:
        told = json.loads(memory.read_text("utf-8"))
        variant, attempts = (told["backend"], told["precision"]), int(told["attempts"])
        sound = told["schema_version"] == _SCHEMA_VERSION and variant in variants
    except (OSError, ValueError, KeyError, TypeError):
        return None, 0
    return (variant, attempts) if sound else (None, 0)


def _remember(
    memory: Path, chosen: Variant, times_ms: Mapping[str, float], *, attempts: int
) -> bool:
    """Write down what was chosen; a cache that cannot be written to is no fault."""
    told = {
        "schema_version": _SCHEMA_VERSION,
        "backend": chosen[0],
        "precision": chosen[1],
        "attempts": attempts,
        "times_ms": {name: round(value, 4) for name, value in times_ms.items()},
    }
    try:
        write_text(memory, json.dumps(told, indent=1) + "\n")
    except OutputError:
        return False
    return True


def _say(
    bundle: Bundle, chosen: Variant, times_ms: Mapping[str, float], memory: Path | None
) -> str:
    others = ", ".join(
        f"{name} {value:.2f} ms"
        for name, value in sorted(times_ms.items(), key=lambda item: item[1])
    )
    kept = f"remembered in {memory.parent}" if memory else "not remembered: no cache to write to"
    return f"{bundle.spec.name} runs in {_name(chosen)} here ({others}; {kept})"
