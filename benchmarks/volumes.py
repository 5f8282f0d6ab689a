"""What a large scan takes, disk to saved mask: time, memory, and both as predicted.

Each run is a process of its own, as a user starts it. The scan is made, the network has random
weights: what is measured is cost. The peak is that of the resident memory of the process and
all it started, looked at every 10 ms.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bedside.runtime.machine import describe_processor
from bedside.system.atomic import write_text
from made_scan import write_scan

HERE = Path(__file__).parent
RECIPE = HERE.parent / "src" / "bedside" / "recipes" / "btcv.toml"
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
    """

    total_s: float
    network_s: float
    peak_mb: float
    predicted_mb: float | None


def run_bedside(scan: Path, bundle: Path, *, max_ram: str, precision: str) -> Cost:
    """Segment a scan by the command line, cold."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [
            sys.executable, "-m", "bedside", "segment", str(scan), "-m", str(bundle),
            "-o", f"{scratch}/out", "--max-ram", max_ram, "--precision", precision,
            "--threads", "2", "--json",
        ]  # fmt: skip
        output, total_s, peak_mb = run_watched(command)
    report: dict[str, Any] = json.loads(output)
    network_s = report["latency_ms"]["network"]["p50"] / 1e3
    return Cost(total_s, network_s, peak_mb, report["predicted_memory_mb"] * 2**20 / 1e6)


def run_monai(scan: Path) -> Cost:
    """Segment a scan as MONAI's bundles do, cold, with the same network in torch."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [
            sys.executable, str(HERE / "volumes_monai.py"), str(scan), "--recipe", str(RECIPE),
            "-o", scratch,
        ]  # fmt: skip
        output, total_s, peak_mb = run_watched(command)
    found = re.search(r"network_s ([\d.]+)", output)
    assert found is not None
    return Cost(total_s, float(found[1]), peak_mb, None)


def run_watched(command: list[str]) -> tuple[str, float, float]:
    """Run a command; give what it printed, its seconds, and the peak of its tree in MB."""
    begin = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    peak = 0
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
    return output, total_s, peak * 1024 / 1e6


def _resident_kb(pid: int) -> int:
    """Add up the resident memory of a process and those below it."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return 0
    found = re.search(r"VmRSS:\s+(\d+)", status)
    return (int(found[1]) if found else 0) + sum(_resident_kb(int(child)) for child in children)


def make_bundle(folder: Path) -> Path:
    """Build the recipe's network with random weights."""
    path = folder / "btcv.bedside"
    command = [
        sys.executable, "-m", "bedside", "build", str(RECIPE), "--untrained", "-o", str(path)
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    return path


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


def measure_cost(bundle: Path, folder: Path, *, rounds: int, precision: str) -> list[str]:
    """Time ours and MONAI's in turns."""
    scan = folder / "scan.nii.gz"
    write_scan(scan, MAIN_SHAPE)
    runs: dict[str, list[Cost]] = {"bedside": [], "MONAI": []}
    for _ in range(rounds):
        runs["bedside"].append(run_bedside(scan, bundle, max_ram="1GB", precision=precision))
        print(runs["bedside"][-1], flush=True)
        runs["MONAI"].append(run_monai(scan))
        print(runs["MONAI"][-1], flush=True)
    lines = [
        "| | seconds, cold process | of which outside the network | peak, MB |",
        "|---|---|---|---|",
    ]
    for name, costs in runs.items():
        total = statistics.median(cost.total_s for cost in costs)
        outside = statistics.median(cost.total_s - cost.network_s for cost in costs)
        peak = max(cost.peak_mb for cost in costs)
        lines.append(f"| {name} | {total:.1f} | {outside:.1f} | {peak:.0f} |")
    ours, theirs = runs["bedside"], runs["MONAI"]
    faster = statistics.median(b.total_s / a.total_s for a, b in zip(ours, theirs, strict=True))
    less = max(cost.peak_mb for cost in ours) / max(cost.peak_mb for cost in theirs)
    lines += ["", f"{faster:.1f} times faster, with {100 * less:.0f} % of the memory."]
    return lines


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


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", default="bf16", choices=("f32", "bf16"))
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".md"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        bundle = make_bundle(folder)
        cost = measure_cost(bundle, folder, rounds=arguments.rounds, precision=arguments.precision)
        large = measure_large(bundle, folder, precision=arguments.precision)
        prediction = measure_prediction(bundle, folder)
    page = [
        "# Large scans",
        "",
        "A CT scan that is made, int16 in .nii.gz, 1.5 x 0.7 x 0.7 mm; `recipes/btcv.toml` "
        "(1.08 M parameters, 14 classes, 1.5 mm) with random weights, so that labels are "
        "speckled all over: more work for every step after the network than a trained one "
        f"would leave. 2 threads, {arguments.precision}, OpenVINO; MONAI: the same network in "
        "torch, f32, transforms and sliding window as its bundles have them. Written by "
        "`benchmarks/volumes.py`.",
        "",
        f"## {' x '.join(map(str, MAIN_SHAPE))}, ours under `--max-ram 1GB`, "
        f"{arguments.rounds} rounds in turns",
        "",
        *cost,
        "",
        "## A scan larger than its ceiling",
        "",
        *large,
        "",
        "## Memory, predicted before the scan is read",
        "",
        *prediction,
        "",
        f"Machine: {describe_processor()}.",
    ]
    write_text(arguments.output, "\n".join(page) + "\n")


if __name__ == "__main__":
    main()
