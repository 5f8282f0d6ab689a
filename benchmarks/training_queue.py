"""Trainings one after another beside other work: smallest first, and taken up where they stopped.

Jobs stand in a TOML list that is read again before each is chosen, so that jobs can be added
while the queue runs. A job is done once its result is there; one that failed is tried again
the next time the queue is started. Each has its own log in `runs/queue/`, and `status.txt`
there says how all are doing. Killing the queue ends its jobs too.
"""

import argparse
import contextlib
import fcntl
import os
import shlex
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bedside.errors import SpecError, UsageError
from bedside.system.atomic import write_text

GRACE_S = 15.0
NICENESS = 10


@dataclass(frozen=True)
class Job:
    """One line of work.

    Attributes:
        name: Name of its log, and of its line in the status.
        command: What runs, split as a shell would; no shell is started.
        result: File that is there once it is done.
        minutes: What it is thought to take; the smallest goes first.
    """

    name: str
    command: str
    result: Path
    minutes: float


@dataclass
class Running:
    """A job under way."""

    job: Job
    process: subprocess.Popen[bytes]
    begin: float = field(default_factory=time.monotonic)


def read_jobs(path: Path) -> list[Job]:
    """Read the list of jobs, the smallest first.

    Raises:
        SpecError: If it is not TOML, a job lacks a setting or has another, or names repeat.
    """
    try:
        rows = tomllib.loads(path.read_text(encoding="utf-8")).get("jobs", [])
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise SpecError(f"{path} cannot be read: {error}.") from error
    wanted = {"name", "command", "result", "minutes"}
    for row in rows:
        if set(row) != wanted:
            raise SpecError(f"{path}: a job has {sorted(row)}; expected {sorted(wanted)}.")
    names = [row["name"] for row in rows]
    if len(set(names)) != len(names):
        raise SpecError(f"{path}: two jobs have the same name.")
    jobs = [Job(**row | {"result": Path(row["result"])}) for row in rows]
    return sorted(jobs, key=lambda job: job.minutes)


def choose_next(jobs: list[Job], *, taken: set[str]) -> Job | None:
    """Give the smallest job that is neither done nor taken; None if there is none."""
    return next((job for job in jobs if job.name not in taken and not job.result.exists()), None)


class Queue:
    """Jobs of a list, some of them running.

    Args:
        path: The list.
        logs: Folder of logs and status.
        places: Jobs that may run at once.
    """

    def __init__(self, path: Path, logs: Path, *, places: int) -> None:
        self.path, self.logs, self.places = path, logs, places
        self.running: list[Running] = []
        self.failed: dict[str, str] = {}
        self.jobs = read_jobs(path)

    def run(self, *, pause_s: float = 2.0) -> None:
        """Work until nothing is left that can be done; end the jobs if stopped before."""
        try:
            while self._fill() or self.running:
                time.sleep(pause_s)
                self._collect()
        finally:
            self._end_all()

    def _fill(self) -> bool:
        """Start jobs while there are places; tell whether one was started."""
        started = False
        # A list that is being edited may not be readable for a moment; the last one holds.
        with contextlib.suppress(SpecError):
            self.jobs = read_jobs(self.path)
        while len(self.running) < self.places:
            taken = {running.job.name for running in self.running} | set(self.failed)
            job = choose_next(self.jobs, taken=taken)
            if job is None:
                break
            self._start(job)
            started = True
        return started

    def _start(self, job: Job) -> None:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        with (self.logs / f"{job.name}.log").open("ab") as log:
            process = subprocess.Popen(
                ["nice", "-n", str(NICENESS), *shlex.split(job.command)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                # A group of its own, so that whatever it starts can be ended with it.
                start_new_session=True,
            )
        self.running.append(Running(job, process))
        self._say(f"{job.name}: started, about {job.minutes:g} min")

    def _collect(self) -> None:
        """Take note of the jobs that ended."""
        for running in [running for running in self.running if running.process.poll() is not None]:
            self.running.remove(running)
            name, code = running.job.name, running.process.returncode
            minutes = (time.monotonic() - running.begin) / 60
            if code == 0 and running.job.result.exists():
                self._say(f"{name}: done in {minutes:.1f} min")
            else:
                why = f"exit code {code}" if code else f"no {running.job.result}"
                self.failed[name] = f"failed after {minutes:.1f} min, {why}"
                self._say(f"{name}: {self.failed[name]}; see {self.logs / name}.log")

    def _end_all(self) -> None:
        """Ask the jobs to end, and after a while make them."""
        for running in self.running:
            _signal_group(running.process, signal.SIGTERM)
        deadline = time.monotonic() + GRACE_S
        for running in self.running:
            with contextlib.suppress(subprocess.TimeoutExpired):
                running.process.wait(max(0.0, deadline - time.monotonic()))
            _signal_group(running.process, signal.SIGKILL)
            running.process.wait()
            self._say(f"{running.job.name}: stopped")
        self.running.clear()

    def _say(self, text: str) -> None:
        print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)
        lines = [f"{job.name:40} {self._state(job)}\n" for job in self.jobs]
        write_text(self.logs / "status.txt", "".join(lines))

    def _state(self, job: Job) -> str:
        if job.name in {running.job.name for running in self.running}:
            return "running"
        if job.result.exists():
            return "done"
        return self.failed.get(job.name, f"waits, about {job.minutes:g} min")


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Send a signal to a job and all that it started, if any of it is left."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


@contextlib.contextmanager
def _alone(logs: Path) -> Iterator[None]:
    """Make sure that no other queue works in the same folder.

    Raises:
        UsageError: If one does.
    """
    logs.mkdir(parents=True, exist_ok=True)
    with (logs / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(f"another queue works in {logs}; stop it first.") from error
        yield


def main() -> None:
    """Run the queue, or tell what is left."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("list", nargs="?", type=Path, default=Path(__file__).with_suffix(".toml"))
    parser.add_argument("--jobs", type=int, default=1, help="processes at once, a thread each")
    parser.add_argument("--logs", type=Path, default=Path("runs/queue"))
    parser.add_argument("--show", action="store_true", help="list what is left, and run nothing")
    arguments = parser.parse_args()
    if arguments.show:
        for job in read_jobs(arguments.list):
            print(f"{job.minutes:6g} min  {'done' if job.result.exists() else 'waits'}  {job.name}")
        return
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(143))
    with _alone(arguments.logs):
        Queue(arguments.list, arguments.logs, places=arguments.jobs).run()


if __name__ == "__main__":
    main()
