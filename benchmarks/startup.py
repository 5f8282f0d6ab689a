"""How long a fresh process takes: the import, the help, and one cine segmented; before and after.

Each command runs in turns in two source trees, this one and an older checkout, so that what else
the machine does falls on both. Writes startup.md.
"""

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from bedside.cli.demo import find_cine
from bedside.runtime import installed_backends
from bedside.runtime.machine import describe_processor, package_version

HERE = Path(__file__).parent
# The import alone is timed inside: starting Python takes several times as long.
_IMPORT = (
    "import time; t = time.perf_counter(); import bedside; "
    "print(time.perf_counter() - t, bedside.__file__)"
)


def run(command: list[str], source: Path, folder: Path) -> tuple[float, float]:
    """Run a command of one source tree once; wall and processor seconds."""
    shutil.rmtree(folder / "out", ignore_errors=True)
    environment = {
        **os.environ, "PYTHONPATH": str(source / "src"), "XDG_CACHE_HOME": str(folder / "cache"),
    }  # fmt: skip
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # installed packages are compiled, too
    before, begin = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [sys.executable, *command], env=environment, cwd=folder, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    wall = time.perf_counter() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if command[-1] == _IMPORT:
        seconds, file = done.stdout.split()
        assert Path(file).is_relative_to(source), f"{file} was imported, not {source}"
        wall = float(seconds)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, spent


def main() -> None:
    """Measure in turns, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("before", type=Path, help="an older checkout")
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    options.before = options.before.resolve()
    commit = subprocess.run(
        ["git", "-C", options.before, "rev-parse", "--short", "HEAD"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    trees = {"before": options.before, "after": HERE.parent}
    commands = {
        "`import bedside`": ["-c", _IMPORT],
        "`bedside --help`": ["-m", "bedside", "--help"],
        "`bedside segment` of the cine": [
            "-m", "bedside", "segment", str(find_cine()), "-m", "camus-4ch", "-o", "out",
        ],
    }  # fmt: skip
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for name, command in commands.items():
            spans: dict[str, list[tuple[float, float]]] = {tree: [] for tree in trees}
            for turn in range(options.rounds + 1):
                for tree, source in trees.items():
                    folder = Path(scratch, tree)
                    folder.mkdir(exist_ok=True)
                    span = run(command, source, folder)
                    if turn:  # the first one compiles, and times the ways to run the bundle
                        spans[tree].append(span)
            for place, what in enumerate(("wall", "processor")):
                old, new = (
                    1e3 * np.percentile([span[place] for span in spans[tree]], 25) for tree in trees
                )
                change = 100 * (new / old - 1)
                if what == "wall" or "import" not in name:
                    rows.append(f"| {name} | {what} | {old:.1f} | {new:.1f} | {change:+.0f} % |")
    versions = ", ".join(
        f"{package} {package_version(package)}" for package in (*installed_backends(), "numpy")
    )
    text = f"""# Startup of a fresh process

Written by `benchmarks/startup.py` on {describe_processor()}; Python
{sys.version.split()[0]}, {versions}. "Before" is commit {commit}. Lower quartile of
{options.rounds} runs of each, in turns, in ms; processor time is that of all threads.

| what | time | before | after | change |
|---|---|---|---|---|
{chr(10).join(rows)}
"""
    (HERE / "startup.md").write_text(text, encoding="utf-8")
    sys.stdout.write(text)


if __name__ == "__main__":
    main()
