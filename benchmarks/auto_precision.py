"""Ten first uses on an idle machine and ten on a loaded one: is what `auto` takes the fastest?

Each first use is a process of its own with an empty cache, and a second process follows it
with the same cache. What they run in is compared with a long interleaved run of every
certified way, in a plain loop of its own. Writes `auto_precision.md`.

Run: python benchmarks/auto_precision.py
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bedside.bundle import Bundle, find_bundle, read_bundle
from bedside.runtime.execution_modes import ExecutionMode, certified_modes, open_mode
from bedside.runtime.machine import describe_processor, package_version

PAGE = Path(__file__).with_suffix(".md")
CLOSE = 1.10
# Pause before a turn, so that nobody's threads still spin; calls that do not count, and do.
_PAUSE_S, _WARM_UP, _COUNTED = 0.05, 5, 10
_REST_S = 8.0
_USE = """
import json, sys, time
from pathlib import Path
from bedside.bundle import read_bundle
from bedside.runtime import open_session
said, begin = [], time.perf_counter()
session = open_session(read_bundle(Path(sys.argv[1])), threads=int(sys.argv[2]),
                       on_choice=said.append)
print(json.dumps({"variant": [session.backend, session.precision], "said": said,
                  "seconds": time.perf_counter() - begin}))
"""


_SHARED = (
    "Others worked on the machine all the time. In the idle rows the processes of this benchmark "
    "ran at real-time priority, so that nobody could interrupt them; in the loaded ones, at that "
    "of everybody."
)


@dataclass(frozen=True)
class Use:
    """A first use, and the one after it.

    Attributes:
        mode: What the first one ran in.
        again: What the second one ran in.
        decided: Whether an answer was found and remembered.
        seconds: Time that the first one took to open the bundle, timing included.
        load: Load of the machine in the minute before.
    """

    mode: ExecutionMode
    again: ExecutionMode
    decided: bool
    seconds: float
    load: float


@dataclass(frozen=True)
class Study:
    """What was measured of one bundle in one state of the machine.

    Attributes:
        name: The bundle's.
        state: "idle" or "loaded".
        reference_ms: Lower quartile of each way, before and after the uses.
        uses: The first uses.
        load: Load of the machine at the beginning and at the end.
    """

    name: str
    state: str
    reference_ms: dict[ExecutionMode, float]
    uses: list[Use]
    load: tuple[float, float]


def time_reference(
    bundle: Bundle, *, threads: int, total_s: float
) -> dict[ExecutionMode, list[float]]:
    """Time every certified way in interleaved rounds for a long time, in ms."""
    spec = bundle.spec
    shape = (1, spec.input.channels, *spec.input.size_px)
    generator = np.random.default_rng(0)
    tensor = generator.random(shape, np.float32)
    sessions = {mode: open_mode(bundle, mode, threads=threads) for mode in certified_modes(bundle)}
    times: dict[ExecutionMode, list[float]] = {mode: [] for mode in sessions}
    begin = time.perf_counter()
    while time.perf_counter() - begin < total_s:
        for index in generator.permutation(len(sessions)):
            mode = list(sessions)[index]
            time.sleep(_PAUSE_S)
            for number in range(_WARM_UP + _COUNTED):
                start = time.perf_counter()
                sessions[mode].predict(tensor)
                if number >= _WARM_UP:
                    times[mode].append((time.perf_counter() - start) * 1e3)
    return times


def use_once(bundle: Bundle, *, threads: int) -> Use:
    """Open a bundle in two processes, one after the other, with a cache that begins empty."""
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as cache:
        first, second = (
            json.loads(
                subprocess.run(
                    [sys.executable, "-c", _USE, str(bundle.path), str(threads)],
                    env=os.environ | {"XDG_CACHE_HOME": cache},
                    capture_output=True, text=True, check=True,
                ).stdout
            )
            for _ in range(2)
        )  # fmt: skip
        decided = any(Path(cache).rglob("*.json"))
    return Use(tuple(first["variant"]), tuple(second["variant"]), decided, first["seconds"], load)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Let this process and those that it starts go before all ordinary ones, as if idle."""
    policy, parameter = os.sched_getscheduler(0), os.sched_getparam(0)
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameter)


@contextmanager
def loaded(cores: int) -> Iterator[None]:
    """Keep so many cores busy with other processes."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(cores)]
    try:
        time.sleep(1)
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def study(
    bundle: Bundle, state: str, *, uses: int, threads: int, reference_s: float, rest_s: float = 0.0
) -> Study:
    """Time a bundle's ways, use it for the first time so often, and time its ways again."""
    before = os.getloadavg()[0]
    times = time_reference(bundle, threads=threads, total_s=reference_s / 2)
    found = []
    for _ in range(uses):
        time.sleep(rest_s)  # for the others whom an uninterrupted process keeps waiting
        found.append(use_once(bundle, threads=threads))
    for mode, more in time_reference(bundle, threads=threads, total_s=reference_s / 2).items():
        times[mode] += more
    quartiles = {mode: float(np.percentile(each, 25)) for mode, each in times.items()}
    return Study(bundle.spec.name, state, quartiles, found, (before, os.getloadavg()[0]))


def format_page(studies: Sequence[Study], *, threads: int, shared: bool) -> str:
    """Write the page."""
    idle_ms = {each.name: each.reference_ms for each in studies if each.state == "idle"}
    lines = [
        "# What `auto` takes, on an idle and on a loaded machine",
        "",
        "Each row is ten first uses of a bundle, each by a new process with an empty cache, and a "
        "second use after each. Loaded means that as many other processes as there are cores "
        "computed without a pause, beside what else the machine did: see its load. The fastest is "
        "by a long interleaved run of its own on the idle machine, by lower quartiles. Undecided "
        "uses ran in the default of the table, and remembered nothing. By "
        "`benchmarks/auto_precision.py`.",
        *(["", _SHARED] if shared else []),
        "",
        f"{describe_processor()}; {threads} threads; OpenVINO {package_version('openvino')}, "
        f"ONNX Runtime {package_version('onnxruntime')}.",
        "",
        "| bundle | machine | load | taken (of uses) | within 10 % of the fastest | decided | "
        "same at second use | opening, s (median, longest) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for each in studies:
        reference_ms = idle_ms[each.name]
        taken = [use.mode for use in each.uses]
        counts = ", ".join(f"{' '.join(v)} ({taken.count(v)})" for v in dict.fromkeys(taken))
        bound_ms = CLOSE * min(reference_ms.values())
        close = sum(reference_ms[mode] <= bound_ms for mode in taken)
        loads = [each.load[0], *(use.load for use in each.uses), each.load[1]]
        seconds = [use.seconds for use in each.uses]
        lines.append(
            f"| {each.name} | {each.state} | {min(loads):.1f}-{max(loads):.1f} | {counts} | "
            f"{close} of {len(taken)} | {sum(use.decided for use in each.uses)} | "
            f"{sum(use.again == use.mode for use in each.uses)} | "
            f"{np.median(seconds):.1f}, {max(seconds):.1f} |"
        )
    lines += ["", "The long runs, lower quartiles in ms:", ""]
    for each in studies:
        times = ", ".join(
            f"{' '.join(mode)} {span:.2f}"
            for mode, span in sorted(each.reference_ms.items(), key=lambda item: item[1])
        )
        lines.append(f"* {each.name}, {each.state}: {times}")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--bundles", nargs="+", default=["camus-4ch", "hippocampus"])
    parser.add_argument("--uses", type=int, default=10)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--reference-s", type=float, default=40.0)
    parser.add_argument(
        "--shared",
        action="store_true",
        help="others work on this machine: the idle part runs at real-time priority",
    )
    parser.add_argument("-o", "--output", type=Path, default=PAGE)
    settings = parser.parse_args()
    bundles = [read_bundle(find_bundle(name)) for name in settings.bundles]
    options = {
        "uses": settings.uses, "threads": settings.threads, "reference_s": settings.reference_s,
    }  # fmt: skip
    studies = []
    for bundle in bundles:
        with uninterrupted() if settings.shared else nullcontext():
            rest_s = _REST_S if settings.shared else 0.0
            studies.append(study(bundle, "idle", **options, rest_s=rest_s))
        with loaded(os.cpu_count() or 1):
            studies.append(study(bundle, "loaded", **options))
        print(studies[-2:], flush=True)
    settings.output.write_text(
        format_page(studies, threads=settings.threads, shared=settings.shared)
    )


if __name__ == "__main__":
    main()
