"""What the simulation of many machines starts from: measured here, kept in `scale_sim.json`.

Heads are measured in processor time, which other work on the machine changes little. Cases are
measured as their records have them, in seconds that passed, so with the machine's load in them.
"""

import argparse
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from batches_for_tests import read_lines, start, write_cases
from bedside.batch.job import Job
from bedside.batch.manifest import read_manifest
from bedside.batch.record import Record
from bedside.batch.run import plan_batch, run_batch
from bedside.batch.worker import Message, Ready
from bedside.batch.worker_pool import Worker
from bedside.bundle import find_bundle
from bedside.options import Options
from bedside.runtime.machine import describe_processor, read_load
from bedside.system.atomic import write_text
from made_scan import write_scan

DATA = Path(__file__).with_name("scale_sim.json")
RECIPE = Path(__file__).parents[1] / "src" / "bedside" / "recipes" / "btcv.toml"
CT_SLICES = (117, 131, 163, 148, 143, 124, 131, 88, 89, 93, 104, 98, 90, 195)
"""Of the 14 scans of BTCV at hand, which has 512 x 512 pixels a slice."""

FINISHED = (0, 3)


class InstantWorkers:
    """Workers that answer at once, so that what is left is the head."""

    start_limit_s: float | None = None

    def __init__(self) -> None:
        self._answers: deque[tuple[Worker, Message]] = deque()

    def start(self, first: Job) -> "InstantWorker":
        """Start one."""
        record = first.finish("refused", begun=time.monotonic(), error=ValueError("x" * 80))
        worker = InstantWorker(self._answers, record)
        self._answers.append((worker, Ready()))
        return worker

    def listen(
        self, workers: Collection[Worker], timeout_s: float | None
    ) -> list[tuple[Worker, Message]]:
        """Receive one message, as from Ray."""
        return [self._answers.popleft()]


class InstantWorker:
    """One of them.

    Args:
        answers: Where it leaves its answers.
        record: What it answers, but for the id.
    """

    def __init__(self, answers: deque[tuple[Worker, Message]], record: Record) -> None:
        self._answers, self._record = answers, record

    def submit(self, job: Job) -> None:
        """Answer."""
        self._answers.append((self, replace(self._record, id=job.case.id)))

    def stop(self) -> None:
        """End."""


def write_manifest(folder: Path, count: int) -> Path:
    """Write a manifest of files that are not there."""
    path = folder / "cases.jsonl"
    lines = (
        json.dumps({"id": f"case-{number:06d}", "source": f"images/case-{number:06d}.nii.gz"})
        for number in range(count)
    )
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def measure_heads(sizes: Iterable[int] = (2, 100, 400, 1000, 2000)) -> dict[str, Any]:
    """Measure what the real head spends, with workers that answer at once."""
    model = find_bundle("camus-4ch")
    measured = []
    for size in (1, *sizes):  # The first warms up.
        count = 1500
        with tempfile.TemporaryDirectory() as place:
            manifest = write_manifest(Path(place), count)
            marks = [time.process_time()]
            cases = read_manifest(manifest)
            marks.append(time.process_time())
            plan = plan_batch(
                cases, Path(place) / "out", model=model, options=Options(), resume=False
            )
            marks.append(time.process_time())
            run_batch(plan, InstantWorkers(), size=size)
            marks.append(time.process_time())
        line_s, plan_s, run_s = (after - before for before, after in pairwise(marks))
        measured.append(
            {
                "workers": size,
                "line_s": line_s / count,
                "plan_s": plan_s / count,
                "event_s": run_s / (count + min(size, count)),
            }
        )
    return {"heads": measured[1:], "manifest_bytes_per_case": manifest_bytes(1000)}


def manifest_bytes(count: int) -> float:
    """Mean bytes of a line."""
    with tempfile.TemporaryDirectory() as place:
        return write_manifest(Path(place), count).stat().st_size / count


def describe_run(output: Path, manifest: Path, wall_s: float) -> dict[str, Any]:
    """Seconds and bytes of each case of a run, and of the whole."""
    lines = read_lines(output / "results.jsonl")
    folder = manifest.parent
    sources = {line["id"]: folder / line["source"] for line in read_lines(manifest)}
    return {
        "wall_s": round(wall_s, 2),
        "machine": describe_processor(),
        "cases": [
            {
                "s": line["seconds"],
                "read": sources[line["id"]].stat().st_size,
                "write": sum(file["bytes"] for file in line["files"]),
                "status": line["status"],
            }
            for line in lines
        ],
    }


def run_timed(manifest: Path, bundle: str, output: Path, *words: str) -> float:
    """Run a batch and return the seconds of the whole process."""
    begin = time.perf_counter()
    batch = start(manifest, bundle, output, *words)
    told = batch.communicate()
    if batch.returncode not in FINISHED:
        sys.exit(f"a run ended with {batch.returncode}: {told}")
    return time.perf_counter() - begin


def measure_fixed(folder: Path, manifest: Path, bundle: str, *words: str) -> float:
    """Seconds of a run of two cases by two workers that no case accounts for."""
    two = folder / "two.jsonl"
    lines = manifest.read_text(encoding="utf-8").splitlines(keepends=True)
    two.write_text("".join(lines[:2]), encoding="utf-8")
    wall_s = run_timed(two, bundle, folder / "fixed", "--jobs", "2", *words)
    return wall_s - max(line["seconds"] for line in read_lines(folder / "fixed" / "results.jsonl"))


def measure_two_workers(count: int) -> dict[str, Any]:
    """Run small cases by two workers."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        manifest, _ = write_cases(folder, count)
        load = read_load()
        fixed_s = measure_fixed(folder, manifest, "camus-4ch", "--threads", "1")
        output = folder / "out"
        wall_s = run_timed(manifest, "camus-4ch", output, "--jobs", "2", "--threads", "1")
        ran = describe_run(output, manifest, wall_s)
    return {"two_workers": {**ran, "fixed_s": round(fixed_s, 2), "load": [load, read_load()]}}


def build_untrained(folder: Path) -> Path:
    """Build the network of `btcv.toml` with random weights."""
    bundle = folder / "btcv.bedside"
    command = [sys.executable, "-m", "bedside", "build", str(RECIPE), "--untrained"]
    subprocess.run([*command, "-o", str(bundle)], check=True, capture_output=True)
    return bundle


def write_scans(folder: Path, slices: Sequence[int]) -> Path:
    """Make scans and their manifest."""
    lines = []
    for number, count in enumerate(slices):
        name = f"ct-{number:02d}"
        write_scan(folder / f"{name}.nii.gz", (count, 512, 512), seed=number)
        lines.append(json.dumps({"id": name, "source": f"{name}.nii.gz"}) + "\n")
    manifest = folder / "cases.jsonl"
    manifest.write_text("".join(lines), encoding="utf-8")
    return manifest


def measure_scans() -> dict[str, Any]:
    """Run scans of the size of CT by two workers of one thread, with random weights."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        bundle, manifest = build_untrained(folder), write_scans(folder, CT_SLICES)
        load, output = read_load(), folder / "out"
        words = ("--jobs", "2", "--threads", "1", "--precision", "f32")
        wall_s = run_timed(manifest, str(bundle), output, *words)
        ran = describe_run(output, manifest, wall_s)
    return {"scans": {**ran, "load": [load, read_load()]}, "scan_slices": CT_SLICES}


def measure_processor() -> dict[str, Any]:
    """Measure the processor time of the start of a run, and of a small and a large scan."""
    found: dict[str, Any] = {"scan_processor_s": []}
    words = ("--threads", "1", "--timeout", "6000", "--precision", "f32")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        small, _ = write_cases(folder / "small", 1)
        before_s = children_s()
        run_timed(small, "camus-4ch", folder / "small" / "out", *words)
        found["load_s"] = children_s() - before_s
        bundle = build_untrained(folder)
        for slices in (min(CT_SLICES), max(CT_SLICES)):
            part = folder / str(slices)
            part.mkdir()
            manifest, before_s = write_scans(part, [slices]), children_s()
            run_timed(manifest, str(bundle), part / "out", *words)
            found["scan_processor_s"].append([slices, children_s() - before_s - found["load_s"]])
    return found


def children_s() -> float:
    """Processor seconds of the processes that this one has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def measure_operations(few: int = 4, many: int = 16) -> dict[str, Any]:
    """Count the system calls that name a file of the study, per case, with strace."""
    counts = []
    with tempfile.TemporaryDirectory() as place:
        for number in (few, many):
            folder = Path(place) / str(number)
            manifest, _ = write_cases(folder, number)
            log = folder / "calls.txt"
            command = [
                "strace", "-f", "-qq", "-e", "trace=%file", "-s", "4096", "-o", str(log),
                sys.executable, "-m", "bedside", "segment", "--manifest", str(manifest),
                "-m", "camus-4ch", "-o", str(folder / "out"), "--jobs", "1", "--threads", "1",
                "--timeout", "600",
            ]  # fmt: skip
            done = subprocess.run(command, check=False, capture_output=True, text=True)
            if done.returncode not in FINISHED:
                sys.exit(done.stderr)
            study = re.compile(re.escape(str(folder)) + "/(data|out)")
            counts.append(sum(bool(study.search(line)) for line in log.open(errors="replace")))
    return {"operations_per_case": (counts[1] - counts[0]) / (many - few)}


PARTS = {
    "heads": measure_heads,
    "two": lambda: measure_two_workers(500),
    "scans": measure_scans,
    "processor": measure_processor,
    "operations": measure_operations,
}


def keep(found: dict[str, Any], path: Path = DATA) -> None:
    """Add measurements to the file of all."""
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    write_text(path, json.dumps(known | found, separators=(",", ":")) + "\n")


def main() -> None:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parts", nargs="+", choices=list(PARTS))
    for part in parser.parse_args().parts:
        keep(PARTS[part]())


if __name__ == "__main__":
    main()
