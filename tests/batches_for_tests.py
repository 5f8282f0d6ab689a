"""Batches as processes, and somebody who kills them: for the tests and for the benchmark."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import makers


def write_cases(folder: Path, count: int) -> tuple[Path, set[str]]:
    """Make up small cases of several kinds, some of them bad, and their manifest.

    Returns:
        The manifest, and the ids of the bad ones.
    """
    (folder / "data").mkdir(parents=True)
    lines, bad = [], set()
    for number in range(count):
        name = f"case-{number:03d}"
        path = _write_case(folder / "data", name, number)
        if path.stat().st_size < 50:
            bad.add(name)
        lines.append(json.dumps({"id": name, "source": f"data/{path.name}"}) + "\n")
    manifest = folder / "cases.jsonl"
    manifest.write_text("".join(lines), encoding="utf-8")
    return manifest, bad


def _write_case(folder: Path, name: str, seed: int) -> Path:
    """One in twelve is damaged, one a DICOM, two are NIfTI, the others pictures."""
    kind = seed % 12
    if kind == 11:
        path = folder / f"{name}.png"
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(9))
        return path
    fan = makers.make_fan(2 if kind in (0, 1, 2) else 1, 48 + seed % 5, 64, seed=seed)
    if kind == 0:
        dataset = makers.make_dicom(fan, tags={"StudyDate": "20200102"})
        return makers.write_dicom(dataset, folder / f"{name}.dcm")
    if kind in (1, 2):
        return makers.write_nifti(fan.T, folder / f"{name}.nii.gz")
    return makers.write_picture(fan[0], folder / f"{name}.png")


def start(manifest: Path, bundle: Path | str, output: Path, *words: str) -> subprocess.Popen:
    """Start a batch as a person would."""
    command = [sys.executable, "-m", "bedside", "segment", "--manifest", str(manifest)]
    command += ["-m", str(bundle), "-o", str(output), *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def find_workers(parent: int) -> list[int]:
    """List the processes that a batch has started to do its cases."""
    found = []
    for place in Path("/proc").iterdir():
        if not place.name.isdigit():
            continue
        try:
            status = (place / "stat").read_text().rpartition(")")[2].split()
            words = (place / "cmdline").read_bytes()
        except OSError:
            continue
        if int(status[1]) == parent and b"spawn_main" in words:
            found.append(int(place.name))
    return found


def harass(
    batches: list[subprocess.Popen],
    chance: random.Random,
    *,
    kills: int,
    pause_s: float,
    check=lambda: None,
) -> int:
    """Kill workers at random moments, as long as there are batches.

    Args:
        batches: What runs.
        chance: Chooses moments and victims.
        kills: How many at most.
        pause_s: Mean time between two.
        check: Called after each.

    Returns:
        How many were killed.
    """
    done = 0
    while done < kills and any(batch.poll() is None for batch in batches):
        time.sleep(chance.expovariate(1 / pause_s))
        workers = [worker for batch in batches for worker in find_workers(batch.pid)]
        if workers:
            try:
                os.kill(chance.choice(workers), signal.SIGKILL)
            except ProcessLookupError:
                continue
            done += 1
            check()
    return done


def read_lines(*paths: Path) -> list[dict]:
    """Read lists of results."""
    return [json.loads(line) for path in paths for line in path.read_text().splitlines()]


def hash_tree(output: Path) -> dict[str, str]:
    """Hash every result file of a batch; what is hidden and the lists are none."""
    return {
        path.relative_to(output).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(output.rglob("*"))
        if path.is_file() and not path.relative_to(output).parts[0].startswith(".")
        and path.suffix != ".jsonl"
    }  # fmt: skip
