"""What a large scan takes, disk to saved mask: time, memory, and both as predicted.

Each run is a process of its own, as a user starts it. The scan is made; the network has random
weights, unless a trained one is named with --bundle, or with --run that of a fold of `btcv-scans`,
which has no bundle: what is measured is cost. With --before an earlier revision of this repository
takes its turn in the same run. The peak is that of the resident memory of the process and all it
started, looked at every 10 ms. With --run the made scan and one of BTCV are measured alone.
"""

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import nibabel

from bedside.build import FinishedRun, write_draft
from bedside.export.onnx import export_onnx
from bedside.models import create
from bedside.runtime.machine import describe_processor
from bedside.spec import read_recipe
from bedside.system.atomic import write_text
from bedside.training.checkpoint import load_tensors
from bedside.training.run import WEIGHTS
from made_scan import write_scan

HERE = Path(__file__).parent
RECIPE = HERE.parent / "src" / "bedside" / "recipes" / "btcv.toml"
SCANS = RECIPE.with_name("btcv-scans.toml")
HOUNSFIELD = f"""extends = "{SCANS}"
[[deployment.preprocess]]
step = "orient"
[[deployment.preprocess]]
step = "resample"
size_vox = [0, 128, 128]
[[deployment.preprocess]]
step = "window_level"
level = 75.0
width = 400.0
"""
"""`btcv-scans` for scans in HU: its 8 bits stand for -125 to 275 HU."""
TEN_SHAPES = (
    (60, 128, 128), (100, 256, 256), (300, 128, 128), (40, 512, 512), (150, 320, 320),
    (120, 512, 512), (200, 400, 400), (300, 512, 512), (500, 384, 384), (160, 768, 768),
)  # fmt: skip
MAIN_SHAPE = (300, 512, 512)
LARGE_SHAPE = (768, 1024, 1024)
PEAK_PAUSE_S = 0.01


@dataclass(frozen=True)
class Cost:
    """What one run took.

    Attributes:
        total_s: From the start of the process to its end.
        network_s: Of that, in the network.
        peak_mb: Largest resident memory of the process tree, in MB.
        predicted_mb: What was predicted of it, in MB; None if nothing was.
        cpu_s: Processor time of the process and what it started.
        stages_s: Seconds of each stage, and of the rest.
    """

    total_s: float
    network_s: float
    peak_mb: float
    predicted_mb: float | None
    cpu_s: float
    stages_s: Mapping[str, float] = field(default_factory=dict)


def run_bedside(
    scan: Path, bundle: Path, *, max_ram: str, precision: str, sources: Path | None = None
) -> Cost:
    """Segment a scan by the command line, cold; by other sources than these if they are named."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [
            sys.executable, "-m", "bedside", "segment", str(scan), "-m", str(bundle),
            "-o", f"{scratch}/out", "--max-ram", max_ram, "--precision", precision,
            "--threads", "2", "--json",
        ]  # fmt: skip
        output, total_s, peak_mb, cpu_s = run_watched(command, sources=sources)
    report: dict[str, Any] = json.loads(output)
    stages_s = {"start and open": report["startup_ms"] / 1e3}
    stages_s |= {name: each["p50"] / 1e3 for name, each in report["latency_ms"].items()}
    known_s = stages_s["start and open"] + stages_s.pop("total")
    stages_s["pictures, report, mask"] = total_s - known_s
    predicted_mb = report["predicted_memory_mb"] * 2**20 / 1e6
    return Cost(total_s, stages_s["network"], peak_mb, predicted_mb, cpu_s, stages_s)


def run_monai(scan: Path, recipe: Path, *, weights: Path | None = None) -> Cost:
    """Segment a scan as MONAI's bundles do, cold, with a recipe's network in torch."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [
            sys.executable, str(HERE / "volumes_monai.py"), str(scan), "--recipe", str(recipe),
            "-o", scratch, *(["--weights", str(weights)] if weights else []),
        ]  # fmt: skip
        output, total_s, peak_mb, cpu_s = run_watched(command)
    found = re.search(r"network_s ([\d.]+)", output)
    assert found is not None
    return Cost(total_s, float(found[1]), peak_mb, None, cpu_s)


def run_watched(
    command: list[str], *, sources: Path | None = None
) -> tuple[str, float, float, float]:
    """Run a command.

    Returns:
        What it printed, its seconds, the peak of its tree in MB, and its processor seconds.
    """
    others = {} if sources is None else {"PYTHONPATH": str(sources)}
    begin = time.perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, **others},
    )  # fmt: skip
    peak, before_s = 0, _children_s()
    ended = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not ended.wait(PEAK_PAUSE_S):
            peak = max(peak, _resident_kb(process.pid))

    watcher = threading.Thread(target=watch)
    watcher.start()
    output, errors = process.communicate()
    total_s = time.perf_counter() - begin
    ended.set()
    watcher.join()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{errors}")
    return output, total_s, peak * 1024 / 1e6, _children_s() - before_s


def _children_s() -> float:
    """Processor seconds of all processes that were started here and have ended."""
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def _resident_kb(pid: int) -> int:
    """Add up the resident memory of a process and those below it."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return 0
    found = re.search(r"VmRSS:\s+(\d+)", status)
    return (int(found[1]) if found else 0) + sum(_resident_kb(int(child)) for child in children)


def unpack_revision(revision: str, folder: Path) -> Path:
    """Sources of an earlier revision."""
    packed = subprocess.run(
        ["git", "-C", str(HERE.parent), "archive", revision, "src"], check=True, capture_output=True
    )
    subprocess.run(["tar", "x", "-C", str(folder)], check=True, input=packed.stdout)
    return folder / "src"


def make_bundle(recipe: Path, folder: Path) -> Path:
    """Build a recipe's network with random weights."""
    path = folder / "btcv.bedside"
    command = [
        sys.executable, "-m", "bedside", "build", str(recipe), "--untrained", "-o", str(path)
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    return path


def make_trained(run: Path, recipe: Path, output: Path) -> Path:
    """Write a bundle of a finished run without test patients: its card has no accuracy.

    Args:
        run: Folder of the run.
        recipe: What the bundle does around the run's network.
        output: The bundle to write.
    """
    finished = FinishedRun(read_recipe(recipe), {"train": (), "val": (), "test": ()}, "", [])
    given = finished.recipe.deployment.input
    model = create(finished.recipe.deployment.model)
    model.load_state_dict(load_tensors(run / WEIGHTS)[0], strict=True)
    graph = export_onnx(model.eval(), input_shape=(1, given.channels, *given.size_px))
    write_draft(output, finished, model, {"f32": graph})
    return output


def measure_case(bundle: Path, scan: Path, arguments: argparse.Namespace) -> list[str]:
    """Time a scan of BTCV from disk to mask on disk."""
    costs = []
    for _ in range(arguments.rounds):
        costs.append(run_bedside(scan, bundle, max_ram="1GB", precision=arguments.precision))
        print(costs[-1], flush=True)
    slices = nibabel.load(scan).shape[2]
    total_s, cpu_s = (statistics.median(getattr(c, n) for c in costs) for n in ("total_s", "cpu_s"))
    return [
        f"{total_s:.1f} s in a cold process, {cpu_s:.1f} s of processor time: "
        f"{1000 * total_s / slices:.0f} ms a slice, reading and writing included; "
        f"{max(cost.peak_mb for cost in costs):.0f} MB.",
        "",
        *_describe_stages(costs),
    ]


def measure_prediction(bundle: Path, folder: Path) -> list[str]:
    """Compare the predicted and the measured peak over ten shapes."""
    lines = [
        "| slices x rows x columns | predicted, MB | measured, MB | predicted / measured |",
        "|---|---|---|---|",
    ]
    for shape in TEN_SHAPES:
        scan = folder / "scan.nii.gz"
        write_scan(scan, shape)
        cost = run_bedside(scan, bundle, max_ram="16GB", precision="f32")
        assert cost.predicted_mb is not None
        lines.append(
            f"| {' x '.join(map(str, shape))} | {cost.predicted_mb:.0f} | {cost.peak_mb:.0f} | "
            f"{cost.predicted_mb / cost.peak_mb:.2f} |"
        )
        print(lines[-1], flush=True)
    return lines


def measure_cost(bundle: Path, folder: Path, arguments: argparse.Namespace) -> list[str]:
    """Time ours, MONAI's, and an earlier revision of ours, in turns."""
    scan = folder / "scan.nii.gz"
    write_scan(scan, MAIN_SHAPE)
    ours_now = partial(run_bedside, scan, bundle, max_ram="1GB", precision=arguments.precision)
    weights = None if arguments.run is None else arguments.run / WEIGHTS
    theirs_now = partial(run_monai, scan, arguments.recipe, weights=weights)
    turns = {"bedside": ours_now, "MONAI": theirs_now}
    before = f"bedside {arguments.before}"
    if arguments.before:
        turns[before] = partial(ours_now, sources=unpack_revision(arguments.before, folder))
    runs: dict[str, list[Cost]] = {name: [] for name in turns}
    for _ in range(arguments.rounds):
        for name, turn in turns.items():
            runs[name].append(turn())
            print(name, runs[name][-1], flush=True)
    lines = [
        "| | seconds, cold process | of which outside the network | processor seconds | peak, MB |",
        "|---|---|---|---|---|",
    ]
    for name, costs in runs.items():
        total = statistics.median(cost.total_s for cost in costs)
        outside = statistics.median(cost.total_s - cost.network_s for cost in costs)
        peak = max(cost.peak_mb for cost in costs)
        cpu = statistics.median(cost.cpu_s for cost in costs)
        lines.append(f"| {name} | {total:.1f} | {outside:.1f} | {cpu:.1f} | {peak:.0f} |")
    ours, theirs = runs["bedside"], runs["MONAI"]
    faster = statistics.median(b.total_s / a.total_s for a, b in zip(ours, theirs, strict=True))
    less = max(cost.peak_mb for cost in ours) / max(cost.peak_mb for cost in theirs)
    lines += ["", f"{faster:.1f} times faster, with {100 * less:.0f} % of the memory."]
    if arguments.before:
        pairs = zip(ours, runs[before], strict=True)
        part = statistics.median(now.total_s / then.total_s for now, then in pairs)
        lines += ["", f"Of the time of revision {arguments.before} in the same run: {part:.2f}."]
    return [*lines, "", *_describe_stages(ours)]


def _describe_stages(costs: list[Cost]) -> list[str]:
    """Table of where the time goes, medians over the runs."""
    stages = [
        (name, statistics.median(c.stages_s[name] for c in costs)) for name in costs[0].stages_s
    ]
    return [
        "Seconds of ours by stage; the network's are those it is waited for, as it runs beside the "
        "blending and restoring of what it has done:",
        "",
        "| " + " | ".join(name for name, _ in stages) + " |",
        "|" + "---|" * len(stages),
        "| " + " | ".join(f"{seconds:.1f}" for _, seconds in stages) + " |",
    ]


def measure_large(bundle: Path, folder: Path, *, precision: str) -> list[str]:
    """Segment a scan of 1.5 GiB under 2 GB."""
    scan = folder / "large.nii.gz"
    write_scan(scan, LARGE_SHAPE)
    cost = run_bedside(scan, bundle, max_ram="2GB", precision=precision)
    print(cost, flush=True)
    return [
        f"{' x '.join(map(str, LARGE_SHAPE))}, with `--max-ram 2GB`: {cost.peak_mb:.0f} MB "
        f"(predicted {cost.predicted_mb:.0f}), {cost.total_s:.0f} s."
    ]


def _describe_network(arguments: argparse.Namespace) -> str:
    """Which network was run."""
    if arguments.run is not None:
        return f"the network of `btcv-scans` as trained in the run `{arguments.run.name}`."
    if arguments.bundle is not None:
        return f"the network of `{arguments.bundle.name}`."
    return (
        f"`recipes/{arguments.recipe.name}` (1.08 M parameters, 14 classes, 1.5 mm) with random "
        "weights, so that labels are speckled all over: more work for every step after the "
        "network than a trained one would leave."
    )


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", default="bf16", choices=("f32", "bf16"))
    parser.add_argument("--bundle", type=Path, help="a trained network, in place of a random one")
    parser.add_argument("--run", type=Path, help="a run of btcv-scans, in place of a random one")
    parser.add_argument("--case", type=Path, help="with --run: a scan of BTCV that is timed too")
    parser.add_argument("--recipe", type=Path, default=RECIPE, help="of the network, for MONAI")
    parser.add_argument("--before", help="an earlier revision that takes its turn, such as HEAD~9")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".md"))
    arguments = parser.parse_args()
    if (arguments.run is None) != (arguments.case is None):
        parser.error("--run and --case go together: name a run and a scan of BTCV, or neither")
    busy = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if arguments.run is not None:
            arguments.recipe = folder / "hounsfield.toml"
            arguments.recipe.write_text(HOUNSFIELD)
            bundle = make_trained(arguments.run, arguments.recipe, folder / "hounsfield.bedside")
        else:
            bundle = arguments.bundle or make_bundle(arguments.recipe, folder)
        cost = measure_cost(bundle, folder, arguments)
        if arguments.run is None:
            more = [
                *("## A scan larger than its ceiling", ""),
                *measure_large(bundle, folder, precision=arguments.precision),
                *("", "## Memory, predicted before the scan is read", ""),
                *measure_prediction(bundle, folder),
            ]
        else:
            grey = make_trained(arguments.run, SCANS, folder / "grey.bedside")
            more = [
                *(f"## A scan of BTCV, {arguments.case.name}, {arguments.rounds} rounds", ""),
                *measure_case(grey, arguments.case, arguments),
            ]
    known = SCANS if arguments.run else arguments.recipe
    page = [
        "# Large scans",
        "",
        "A CT scan that is made, int16 in .nii.gz, 1.5 x 0.7 x 0.7 mm; "
        f"{_describe_network(arguments)} 2 threads, {arguments.precision}, OpenVINO; MONAI: the "
        f"network of `{known.name}` in torch, f32, transforms and sliding window as its "
        "bundles have them. Written by `benchmarks/volumes.py`.",
        "",
        f"## {' x '.join(map(str, MAIN_SHAPE))}, ours under `--max-ram 1GB`, "
        f"{arguments.rounds} rounds in turns",
        "",
        *cost,
        "",
        *more,
        "",
        f"Machine: {describe_processor()}; its load was {busy:.1f} before. Seconds by the clock "
        "grow with what runs beside them, processor seconds hardly.",
    ]
    write_text(arguments.output, "\n".join(page) + "\n")


if __name__ == "__main__":
    main()
