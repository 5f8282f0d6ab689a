"""How long `bedside segment` takes on the cine that comes with pydicom: whole processes, cold.

Every run is a process of its own, from start to files on disk, as a person would start it;
the time per frame, decode to mask on the source grid, is what its own report states.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bedside.cli.demo import find_cine
from bedside.runtime.machine import describe_processor
from bedside.system.atomic import write_text

STAGES = ("decode", "preprocess", "network", "postprocess", "total")


def run_once(bundle: str, threads: int, options: Sequence[str]) -> tuple[float, dict]:
    """Segment the cine in a fresh process; give its wall time in s and its report."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "bedside", "segment", str(find_cine())]
        command += ["-m", bundle, "-o", folder, "--threads", str(threads), "--json", *options]
        begin = time.perf_counter()
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        return time.perf_counter() - begin, json.loads(done.stdout)


def write_table(bundle: str, threads: int, runs: list[tuple[float, dict]]) -> str:
    """Make the table of medians over the runs."""
    report = runs[-1][1]
    walls = [wall for wall, _ in runs]
    lines = [
        "# A cine, cold: `bedside segment` on pydicom's SonoSite film",
        "",
        f"{report['frames']} frames of 240 x 320, JPEG; bundle `{bundle}` "
        f"({report['backend']}, {report['precision']}, {threads} threads); "
        f"{len(runs)} processes; {describe_processor()}.",
        "",
        "| ms a frame | p50 | p95 | p99 |",
        "|---|---|---|---|",
    ]
    for stage in STAGES:
        cells = [
            f"{np.median([run['latency_ms'][stage][p] for _, run in runs]):.2f}"
            for p in ("p50", "p95", "p99")
        ]
        lines.append(f"| {stage} | {' | '.join(cells)} |")
    startup = np.median([run["startup_ms"] for _, run in runs])
    memory = np.median([run["peak_memory_mb"] for _, run in runs])
    lines += [
        "",
        f"Cold process to all files on disk: median {np.median(walls):.2f} s, "
        f"worst {max(walls):.2f} s; ready for the first frame after {startup:.0f} ms; "
        f"peak memory {memory:.0f} MB. Figures are medians over the processes.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    """Run, print and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", nargs="?", default="camus-4ch", help="path or name of a bundle")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".md"))
    arguments = parser.parse_args()
    options = ["--precision", arguments.precision]
    runs = [
        run_once(arguments.bundle, arguments.threads, options) for _ in range(arguments.runs + 1)
    ][1:]
    text = write_table(arguments.bundle, arguments.threads, runs)
    write_text(arguments.output, text)
    print(text)


if __name__ == "__main__":
    main()
