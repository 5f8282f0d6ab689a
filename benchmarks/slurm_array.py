"""The SLURM array job of docs/scale.md as it stands, one task cancelled and taken up again.

Usage: PYTHONPATH=tests:benchmarks python benchmarks/slurm_array.py

Debian's slurm-wlm and munge on this machine, started by hand in a folder of their own: one node
of four cores on paper. The job is submitted, one of its tasks is cancelled while it works, and the
same file is submitted again, as the page says. If a case is missing, twice there or different from
a run by one process, nothing is written and the exit code is 1.
"""

import argparse
import contextlib
import json
import os
import re
import secrets
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from batches_for_tests import hash_tree, read_lines, write_cases
from bedside.runtime.machine import describe_processor, read_load
from bedside.system.atomic import write_text
from scale_measurements import run_timed

PAGE = Path(__file__).parents[1] / "docs" / "scale.md"
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "scancel", "squeue", "srun")
CONFIGURATION = """\
ClusterName=bedside
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort=26817
SlurmdPort=26818
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
MpiDefault=none
ReturnToService=2
SchedulerParameters=sched_interval=2
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 RealMemory=16000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES State=UP
"""


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[dict[str, str]]:
    """Start munge and SLURM's daemons in a folder; yields the environment that finds them."""
    host = socket.gethostname().split(".")[0]
    key, conf = folder / "munge.key", folder / "slurm.conf"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    conf.write_text(CONFIGURATION.format(host=host, folder=folder))
    for name in ("state", "spool"):
        (folder / name).mkdir()
    environment = {**os.environ, "SLURM_CONF": str(conf), "HOME": str(folder)}
    daemons = [
        [
            "munged", "--foreground", "--force", "--key-file", str(key),
            "--socket", f"{folder}/munge.socket", "--pid-file", f"{folder}/munge.pid",
            "--log-file", f"{folder}/munge.log", "--seed-file", f"{folder}/munge.seed",
        ],
        ["slurmctld", "-D", "-f", str(conf)],
        ["slurmd", "-D", "-f", str(conf)],
    ]  # fmt: skip
    started = []
    try:
        for command in daemons:
            started.append(
                subprocess.Popen(
                    command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
                )
            )
            time.sleep(2)
        yield environment
    finally:
        for daemon in reversed(started):
            daemon.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                daemon.wait(20)


def call(environment: dict[str, str], *words: str) -> str:
    """Run one of SLURM's commands and return what it prints."""
    done = subprocess.run(words, env=environment, check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(words)}: {done.stdout}{done.stderr}")
    return done.stdout


def submit(environment: dict[str, str], script: Path) -> str:
    """Submit the job; returns its number."""
    told = call(environment, "sbatch", "--chdir", str(script.parent), str(script))
    return re.search(r"(\d+)\s*$", told)[1]


def wait_for(environment: dict[str, str], job: str) -> None:
    """Wait until no task of a job is left."""
    while call(environment, "squeue", "--noheader", "--jobs", job, "--states", "PD,R,CG").strip():
        time.sleep(3)


def cancel_one(environment: dict[str, str], job: str, output: Path, *, task: int) -> int:
    """Cancel a task of the array when it has done cases; returns how many it had done."""
    listing = output / f"results-{task}-of-16.jsonl"
    while not listing.exists() or len(read_lines(listing)) < 1:
        time.sleep(0.2)
    call(environment, "scancel", f"{job}_{task}")
    return len(read_lines(listing))


def read_durations(log: str) -> dict[str, list[float]]:
    """Seconds of each task that ended, by number of the job, from the log of slurmctld."""
    begun: dict[str, datetime] = {}
    found: dict[str, list[float]] = {}
    for line in log.splitlines():
        event = re.match(r"\[(\S+)\] (?:sched: Allocate |_job_complete: )JobId=(\S+)(.*)", line)
        if event is None:
            continue
        moment, task = datetime.fromisoformat(event[1]), event[2]
        if "Allocate" in line:
            begun[task] = moment
        elif event[3].strip() == "done":
            job = task.partition("_")[0]
            found.setdefault(job, []).append((moment - begun[task]).total_seconds())
    return found


def main() -> None:
    """Run, check, print and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=500)
    parser.add_argument("--task", type=int, default=3, help="the one that is cancelled")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".md"))
    chosen = parser.parse_args()
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        sys.exit(f"not installed: {', '.join(missing)}. apt-get install slurm-wlm munge")
    script_text = re.search(r"```bash\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)[1]
    with tempfile.TemporaryDirectory(prefix="slurm", ignore_cleanup_errors=True) as place:
        folder = Path(place)
        manifest, bad = write_cases(folder / "study", chosen.cases)
        script, output, load = folder / "job.sh", folder / "study" / "out", read_load()
        script.write_text(script_text)
        os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        begin = time.perf_counter()
        with cluster(folder) as environment:
            job = submit(environment, script)
            before = cancel_one(environment, job, output, task=chosen.task)
            wait_for(environment, job)
            left = chosen.cases - sum(1 for path in output.iterdir() if is_result(path)) - len(bad)
            again = submit(environment, script)
            wait_for(environment, again)
        wall_s = time.perf_counter() - begin
        run_timed(manifest, "camus-4ch", folder / "plain", "--jobs", "2", "--threads", "1")
        lines = read_lines(*output.glob("results-*-of-16.jsonl"))
        logs = "".join(path.read_text() for path in folder.glob("slurm-*.out"))
        faults = find_faults(lines, bad, chosen.cases, logs)
        durations = read_durations((folder / "slurmctld.log").read_text())
        first_s, again_s = (statistics.median(durations[each]) for each in (job, again))
        expected = hash_tree(folder / "plain")
        if hash_tree(output) != expected:
            faults.append("files differ")
    if faults:
        sys.exit("\n".join(faults))
    version = subprocess.run(["slurmctld", "-V"], check=True, capture_output=True, text=True)
    text = (
        f"# The SLURM array of docs/scale.md, {chosen.cases} cases: `benchmarks/slurm_array.py`\n\n"
        f"{version.stdout.strip()}, Debian's, on one machine: one node, tasks of the array one "
        f"after another. {describe_processor()}; load {load:.1f} before it began.\n\n"
        f"Task {chosen.task} of 16 was cancelled when it had done {before} of its cases; when the "
        f"others had ended, {left} were left to do. The same file was submitted again. After "
        f"{wall_s:.0f} s in all: each case once in the lists, the {len(bad)} damaged ones refused "
        f"and no other, and the bytes of a plain run in all {len(expected)} files. No id of a case "
        "is in the logs of the job.\n\n"
        f"Median of a task's seconds: {first_s:.1f} with its {chosen.cases // 16} cases, "
        f"{again_s:.1f} the second time, with nothing left to do. The records have "
        f"{sum(line['seconds'] for line in lines) / chosen.cases:.2f} s for a case, beside the "
        "others of four workers that share two cores. What is left of a task is the start of its "
        "workers, once for all its cases, as the job takes shards and no single cases.\n"
    )
    write_text(chosen.output, text)
    print(text)


def is_result(path: Path) -> bool:
    """Whether a path is the folder of a case."""
    return path.is_dir() and not path.name.startswith(".")


def find_faults(lines: list[dict], bad: set[str], count: int, logs: str) -> list[str]:
    """Return what is not as it must be."""
    faults = []
    if sorted({line["id"] for line in lines}) != sorted(line["id"] for line in lines):
        faults.append("a case is in the lists twice")
    if len(lines) != count:
        faults.append(f"{len(lines)} lines for {count} cases")
    if wrong := {line["id"] for line in lines if line["status"] != "done"} ^ bad:
        faults.append(f"listed as bad and not, or the other way: {sorted(wrong)}")
    if named := [line["id"] for line in lines if line["id"] in logs]:
        faults.append(f"the logs name {json.dumps(named[:3])}")
    return faults


if __name__ == "__main__":
    main()
