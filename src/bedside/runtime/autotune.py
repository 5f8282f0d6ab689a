"""Times the ways to run a bundle at its first use on a machine, and remembers the fastest.

Which way is the fastest depends on the processor. Only certified ways take part. Until the fastest
is certain, and where no choice can be stored, the default of the table runs: the same machine
always gives the same result.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from bedside.bundle import Bundle
from bedside.errors import BackendError, InputError, OutputError
from bedside.runtime.autotune_cache import ChoiceFile
from bedside.runtime.contract import Session
from bedside.runtime.execution_modes import ExecutionMode, certified_modes, default_mode, open_mode
from bedside.runtime.fastest import Fastest, Timing, find_fastest
from bedside.runtime.machine import describe_processor, read_load
from bedside.system.cache import cache_folder

BUDGET_S = 2.0


@dataclass(frozen=True)
class TunedChoice:
    """The result of timing the ways to run a bundle.

    Attributes:
        mode: Backend and precision that run from now on.
        decided: Whether the times separated. If not, or if nothing can be remembered,
            `mode` is what was chosen before, or the default.
        times: How long each way took, by "backend precision".
        kept_in: Folder that remembers it; None if it is not remembered.
    """

    mode: ExecutionMode
    decided: bool
    times: Mapping[str, Timing]
    kept_in: Path | None


def open_fastest(
    bundle: Bundle,
    *,
    backend: str = "auto",
    threads: int,
    on_choice: Callable[[str], None] = lambda text: None,
) -> Session:
    """Open a bundle in its fastest certified way; at the first use here, the ways are timed.

    Args:
        bundle: What to run.
        backend: The only backend to take, or "auto" for any that is installed.
        threads: Threads for one call.
        on_choice: Called with a sentence if something has been timed.

    Raises:
        UsageError: If no backend has that name.
        BackendError: If it is not installed, or the default cannot be opened.
    """
    default = default_mode(bundle, backend=backend)
    modes = certified_modes(bundle, backend=backend)
    folder = cache_folder()
    if len(modes) < 2 or folder is None:
        return open_mode(bundle, default, threads=threads)
    file = ChoiceFile(folder / "choices", bundle, modes, threads=threads)
    chosen, sessions = file.read(), {}
    if chosen is None and not file.was_tried():
        with file.held() as held:
            # Another process may have found an answer while this one waited.
            chosen = file.read()
            if held and chosen is None and not file.was_tried():
                sessions = _open_all(bundle, modes, default=default, threads=threads)
                choice = _choose(bundle, sessions, file, total_s=BUDGET_S)
                on_choice(describe_choice(bundle, choice))
                chosen = choice.mode
    if chosen in sessions:
        return sessions[chosen]
    if chosen is not None:
        with contextlib.suppress(BackendError, InputError):
            return open_mode(bundle, chosen, threads=threads)
    return open_mode(bundle, default, threads=threads)


def retune(
    bundle: Bundle, *, backend: str = "auto", threads: int, total_s: float = 5 * BUDGET_S
) -> TunedChoice:
    """Time the certified ways to run a bundle here, and remember the fastest from now on.

    If the times do not separate, what was remembered before stays.

    Args:
        bundle: What to time.
        backend: The only backend to take, or "auto" for any that is installed.
        threads: Threads for one call.
        total_s: Time for it, in seconds.

    Raises:
        UsageError: If no backend has that name.
        BackendError: If it is not installed, or the default cannot be opened.
        OutputError: If the answer cannot be remembered.
    """
    default = default_mode(bundle, backend=backend)
    modes = certified_modes(bundle, backend=backend) or (default,)
    folder = cache_folder()
    if folder is None:
        raise OutputError(
            "there is no home folder to store the choice in. Set XDG_CACHE_HOME to a folder."
        )
    file = ChoiceFile(folder / "choices", bundle, modes, threads=threads)
    with file.held() as held:
        if not held:
            raise OutputError(
                f"cannot remember a choice in {file.path.parent}: it cannot be written to, or "
                "another process is timing there. Name another folder by XDG_CACHE_HOME."
            )
        sessions = _open_all(bundle, modes, default=default, threads=threads)
        return _choose(bundle, sessions, file, total_s=total_s, replace=True)


def describe_choice(bundle: Bundle, choice: TunedChoice) -> str:
    """Return a sentence that names the choice and the times."""
    times = ", ".join(
        f"{name} {timing.quartile_ms:.2f} ms"
        for name, timing in sorted(choice.times.items(), key=lambda item: item[1].quartile_ms)
    )
    here = f"{bundle.spec.name} runs in {_name(choice.mode)} here"
    if choice.kept_in is not None:
        facts = [times or "no other way is certified", f"remembered in {choice.kept_in}"]
    elif choice.decided:
        facts = [times, "there is no folder to remember that in, so the default runs"]
    else:
        facts = [times, "the machine was too busy to tell which way is the fastest"]
    return f"{here} ({'; '.join(filter(None, facts))})"


def _open_all(
    bundle: Bundle, modes: Sequence[ExecutionMode], *, default: ExecutionMode, threads: int
) -> dict[ExecutionMode, Session]:
    """Open the default, which must open, and every other way that does."""
    sessions = {default: open_mode(bundle, default, threads=threads)}
    for mode in modes:
        if mode != default:
            with contextlib.suppress(BackendError, InputError):
                sessions[mode] = open_mode(bundle, mode, threads=threads)
    return sessions


def _choose(
    bundle: Bundle,
    sessions: Mapping[ExecutionMode, Session],
    file: ChoiceFile,
    *,
    total_s: float,
    replace: bool = False,
) -> TunedChoice:
    """Time the open sessions, the default first, and keep the result."""
    spec = bundle.spec
    shape = (1, spec.input.channels, *spec.input.size_px)
    tensor = np.random.default_rng(0).random(shape, np.float32)
    calls = {_name(v): partial(session.predict, tensor) for v, session in sessions.items()}
    found = find_fastest(calls, total_s=total_s)
    chosen = next((mode for mode in sessions if _name(mode) == found.name), None)
    folder = file.path.parent
    try:
        if chosen is None:
            file.note_try()
            return TunedChoice(file.read() or next(iter(sessions)), False, found.times, None)
        return TunedChoice(
            file.keep(chosen, _facts(bundle, sessions, found), replace=replace),
            True, found.times, folder,
        )  # fmt: skip
    except OutputError:
        # What cannot be remembered could be another answer next time.
        return TunedChoice(next(iter(sessions)), chosen is not None, found.times, None)


def _facts(
    bundle: Bundle, sessions: Mapping[ExecutionMode, Session], found: Fastest
) -> dict[str, object]:
    """Return the facts that are kept beside a choice, for people."""
    return {
        "bundle": bundle.spec.name,
        "threads": next(iter(sessions.values())).threads,
        "machine": describe_processor(),
        "load": round(read_load(), 2),
        "times_ms": {name: round(each.quartile_ms, 4) for name, each in found.times.items()},
    }


def _name(mode: ExecutionMode) -> str:
    return " ".join(mode)
