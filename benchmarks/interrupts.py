"""Signals at random moments of a run: does it end in one line, with nothing left?

python benchmarks/interrupts.py [--interrupts 100] [--terminations 20] [-o interrupts.md]

Each run is started as a shell starts a command in the foreground, gets one signal at a random
moment between its start and its end, and is looked at: its last words, its exit code, what is in
its folder for temporary files, hidden files in its output, processes it has started.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from bedside.bundle import find_bundle
from bedside.cli.demo import find_cine

_BUNDLE = "camus-4ch"
# Nothing of ours takes so long to put in order.
_PATIENCE_S = 60
_LINES = {
    signal.SIGINT: "bedside: interrupted.",
    signal.SIGTERM: "bedside: interrupted by SIGTERM.",
}
_OUTCOMES = ("in order", "too early", "done before", "hangs", "other")


def main() -> None:
    """Run, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--interrupts", type=int, default=100)
    parser.add_argument("--terminations", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).with_suffix(".md"))
    settings = parser.parse_args()
    find_bundle(_BUNDLE)
    chance = random.Random(settings.seed)
    counts = ((signal.SIGINT, settings.interrupts), (signal.SIGTERM, settings.terminations))
    rows = []
    with tempfile.TemporaryDirectory() as name:
        for what, arguments in make_runs(Path(name)).items():
            span_s = time_run(arguments, Path(name))
            for number, times in counts:
                seen = [
                    signal_run(arguments, Path(name), number, chance.uniform(0, span_s))
                    for _ in range(times)
                ]
                rows.append((what, number, span_s, seen))
                print(what, number.name, Counter(outcome for outcome, _ in seen), flush=True)
    settings.output.write_text(to_page(rows), "utf-8")


def make_runs(folder: Path) -> dict[str, list[str]]:
    """Make the sources, and name what is run on them."""
    data = folder / "data"
    data.mkdir()
    for number in range(4):
        shutil.copy(find_cine(), data / f"{number}.dcm")
    run = ["segment", "-m", _BUNDLE, "-o", str(folder / "out")]
    return {
        "a file": [*run, str(data / "0.dcm")],
        "a folder of 4": [*run, str(data)],
        "a folder of 4, --jobs 2": [*run, str(data), "--jobs", "2"],
    }


def time_run(arguments: Sequence[str], folder: Path) -> float:
    """Time a run that nobody disturbs, in seconds; the second one, which finds files cached."""
    for _ in range(2):
        begin = time.monotonic()
        process = start(arguments, folder)
        process.communicate()
        if process.returncode:
            sys.exit(f"the run fails even if nobody disturbs it: {arguments}")
    return time.monotonic() - begin


def signal_run(
    arguments: Sequence[str], folder: Path, number: signal.Signals, after_s: float
) -> tuple[str, float]:
    """Start a run, send it a signal, and tell what became of it, and how long that took.

    Returns:
        One of `_OUTCOMES`, or what is wrong; and seconds from the signal to the end.
    """
    process = start(arguments, folder)
    time.sleep(after_s)
    children = find_children(process.pid)
    process.send_signal(number)
    begin = time.monotonic()
    try:
        _, told = process.communicate(timeout=_PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return "hangs", _PATIENCE_S
    spent_s = time.monotonic() - begin
    # What ends by itself with its parent, as Python's tracker of resources does, may take a moment.
    time.sleep(0.5)
    orphans = [child for child in children if is_running(child)]
    left = [*(folder / "tmp").iterdir(), *(folder / "out").rglob(".part-*")]
    left += (folder / "out").glob(".batch/parts/*")
    if orphans or left:
        return f"left {len(left)} files and {len(orphans)} processes", spent_s
    return name_outcome(process.returncode, told, number), spent_s


def name_outcome(code: int, told: str, number: signal.Signals) -> str:
    """Name how a run ended that has left nothing."""
    lines = told.splitlines()
    if code == 128 + number and lines[-1:] == [_LINES[number]] and "Traceback" not in told:
        return "in order"
    if code == 0:
        return "done before"
    if code == -number or (code == 1 and lines[-1:] == ["KeyboardInterrupt"]):
        return "too early"
    return f"exit code {code}, {len(lines)} lines"


def start(arguments: Sequence[str], folder: Path) -> "subprocess.Popen[str]":
    """Start a run in an empty place."""
    for name in ("out", "tmp"):
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / "tmp").mkdir()
    return subprocess.Popen(
        [sys.executable, "-m", "bedside", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(folder / "tmp")},
        # A shell's job in the background has SIGINT ignored, and those it starts inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def find_children(pid: int) -> list[int]:
    """Find all processes below one."""
    found = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    )
    children = [int(line) for line in found.stdout.split()]
    return children + [each for child in children for each in find_children(child)]


def is_running(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def to_page(rows: Sequence[tuple[str, signal.Signals, float, list[tuple[str, float]]]]) -> str:
    """Write the table."""
    kinds = list(_OUTCOMES[:4])
    lines = [
        "# Signals at random moments of `bedside segment`",
        "",
        "Made by `benchmarks/interrupts.py`. One signal a run, at a moment drawn evenly from its",
        "start to its usual end. In order: one line, exit code 130 (SIGINT) or 143 (SIGTERM), no",
        "temporary file, nothing hidden in the output, no process left. Too early: Python was",
        "still starting, and dies of the signal in its own words. Done before: all was written.",
        "",
        f"| run | signal | runs | usual time | {' | '.join(kinds)} | anything else | longest end |",
        "|---|---|---|---|" + "---|" * (len(kinds) + 2),
    ]
    for what, number, span_s, seen in rows:
        counted = Counter(outcome for outcome, _ in seen)
        others = sum(count for outcome, count in counted.items() if outcome not in kinds)
        longest_s = max(spent for _, spent in seen)
        cells = [what, number.name, str(len(seen)), f"{span_s:.1f} s"]
        cells += [str(counted[kind]) for kind in kinds] + [str(others), f"{longest_s:.2f} s"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
