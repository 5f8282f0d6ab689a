"""Two Ray nodes on this machine, one killed amid 500 cases: each case once, the same bytes.

Usage: PYTHONPATH=tests python benchmarks/ray_nodes.py

The same cases by one process, and by two nodes of which one is killed, with its workers, when half
of the cases are done; before that some of them undisturbed, for the time. Each node has one core
and an object store of 100 MB, which is read with grpcio (`pip install grpcio`).
If a case is missing, twice there or different, nothing is written and the exit code is 1.
"""

import argparse
import contextlib
import json
import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batches_for_tests import hash_tree, read_lines, start, write_cases
from bedside.runtime.machine import read_load
from bedside.system.atomic import write_text
from scale_measurements import DATA, FINISHED, children_s, describe_run, keep, run_timed

STORE_BYTES = 100 * 2**20
RAY = [sys.executable, "-m", "ray.scripts.scripts"]
BUNDLE = "camus-4ch"

WAIT = """
import json, sys, time
import ray
ray.init(address=sys.argv[1], logging_level="error", log_to_driver=False)

@ray.remote(num_cpus=1)
class Sleeper:
    def rest(self, seconds):
        time.sleep(seconds)

found = {}
for count in (10, 100, 1000):
    sleeper = Sleeper.remote()
    ray.get(sleeper.rest.remote(0))
    pending = [sleeper.rest.remote(600) for _ in range(count)]
    ready = ray.put(1)
    rounds = 40
    begin = time.process_time()
    for _ in range(rounds):
        ray.wait([*pending, ready], num_returns=1, timeout=None)
    found[count] = (time.process_time() - begin) / rounds
    ray.kill(sleeper)
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Nodes:
    """A cluster on this machine.

    Attributes:
        address: Of its head.
        folder: Where Ray keeps its state; on the command line of each of its processes.
    """

    address: str
    folder: Path

    def raylets(self) -> list[int]:
        """Process of each node, the head's first."""
        return sorted(find_processes(f"{self.folder}", "raylet/raylet"))

    def kill_second(self) -> int:
        """Kill the second node and all that it started; returns how many processes."""
        victims = [self.raylets()[1]]
        for each in victims:
            victims += find_children(each)
        for each in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(each, signal.SIGKILL)
        return len(victims)

    def read_store(self) -> tuple[float, int] | None:
        """Return MB and objects in the object stores of all nodes; None without grpcio."""
        command = [*RAY, "memory", "--stats-only", "--address", self.address]
        told = subprocess.run(command, check=False, capture_output=True, text=True).stdout
        found = re.search(r"Plasma memory usage (\d+) MiB, (\d+) objects", told)
        return (float(found[1]), int(found[2])) if found else None


def find_processes(*words: str) -> list[int]:
    """List processes whose command line has all words."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            line = (place / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if all(word in line for word in words) and int(place.name) != os.getpid():
                found.append(int(place.name))
    return found


def find_children(parent: int) -> list[int]:
    """List the processes that a process has started."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (place / "stat").read_text().rpartition(")")[2].split()
            if int(words[1]) == parent:
                found.append(int(place.name))
    return found


@contextlib.contextmanager
def two_nodes(*, port: int = 26379) -> Iterator[Nodes]:
    """Start a head and a second node, each with one core; stop both afterwards."""
    with tempfile.TemporaryDirectory(prefix="ray", dir="/tmp", ignore_cleanup_errors=True) as place:
        nodes = Nodes(f"127.0.0.1:{port}", Path(place))
        limits = ["--num-cpus", "1", "--object-store-memory", str(STORE_BYTES)]
        limits += ["--disable-usage-stats", "--include-log-monitor", "false"]
        head = ["--head", "--port", str(port), "--include-dashboard", "false"]
        head += ["--node-ip-address", "127.0.0.1", "--temp-dir", place]
        second = ["--address", nodes.address, "--node-ip-address", "127.0.0.1"]
        # Whoever has a token of Ray gets a head that wants it, and nodes that do not show it.
        token = Path(place) / "token"
        token.write_text(secrets.token_hex(32))
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token)}
        try:
            for words in (head, second):
                command = [*RAY, "start", *words, *limits]
                done = subprocess.run(command, check=False, capture_output=True, text=True)
                if done.returncode:
                    sys.exit(f"{' '.join(command)}: {done.stdout}{done.stderr}")
            if len(nodes.raylets()) != 2:
                sys.exit(f"{len(nodes.raylets())} nodes have started, not 2")
            yield nodes
        finally:
            started = find_processes(place)
            for each in [*started, *(child for one in started for child in find_children(one))]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(each, signal.SIGKILL)


def measure_wait(nodes: Nodes) -> dict[str, float]:
    """Processor seconds of one `ray.wait`, by the number of workers that it waits for."""
    command = [sys.executable, "-c", WAIT, nodes.address]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def run_ray(nodes: Nodes, manifest: Path, output: Path) -> dict[str, Any]:
    """Run the cases by both nodes, undisturbed."""
    words = ("--ray", nodes.address, "--jobs", "2", "--threads", "1")
    two = manifest.with_name("two.jsonl")
    two.write_text("".join(manifest.read_text().splitlines(keepends=True)[:2]), encoding="utf-8")

    def run_two(name: str) -> float:
        """Seconds of a run of two cases that no case accounts for."""
        wall_s = run_timed(two, BUNDLE, output.with_name(name), *words)
        lines = read_lines(output.with_name(name) / "results.jsonl")
        return wall_s - max(line["seconds"] for line in lines)

    run_two("warm-up")  # Ray's first workers take far longer to start.
    load, used_s = read_load(), [children_s()]
    fixed_s = [run_two("before")]
    used_s.append(children_s())
    wall_s = run_timed(manifest, BUNDLE, output, *words)
    used_s.append(children_s())
    fixed_s.append(run_two("after"))
    ran = describe_run(output, manifest, wall_s)
    spent_s = (used_s[2] - used_s[1]) - (used_s[1] - used_s[0])
    return {
        **ran,
        "fixed_s": round(sum(fixed_s) / 2, 2),
        "load": [load, read_load()],
        "head_s_per_case": spent_s / (len(ran["cases"]) - 2),
        "wait_s": measure_wait(nodes),
        "store": nodes.read_store(),
    }


def run_killed(nodes: Nodes, manifest: Path, output: Path, *, after: int) -> dict[str, Any]:
    """Run the cases by both nodes, and kill one of them when some are done."""
    begin = time.perf_counter()
    words = ("--ray", nodes.address, "--jobs", "2", "--threads", "1")
    batch = start(manifest, BUNDLE, output, *words)
    listing = output / "results.jsonl"
    while batch.poll() is None and (not listing.exists() or len(read_lines(listing)) < after):
        time.sleep(0.5)
    if batch.poll() is not None:
        sys.exit(f"the run ended before its node was killed: {batch.communicate()}")
    store, killed, killed_s = nodes.read_store(), nodes.kill_second(), time.perf_counter() - begin
    told = batch.communicate()
    if batch.returncode not in FINISHED:
        sys.exit(f"the run with a node killed ended with {batch.returncode}: {told}")
    lines = read_lines(listing)
    return {
        "wall_s": time.perf_counter() - begin,
        "killed_s": killed_s,
        "processes": killed,
        "store": store,
        "repeated": sum(line["attempts"] > 1 for line in lines),
        "nodes_left": len(nodes.raylets()),
    }


def find_faults(plain: Path, output: Path, bad: set[str], count: int) -> list[str]:
    """Return what of the run with a node killed is not as it must be."""
    lines, faults = read_lines(output / "results.jsonl"), []
    if len(lines) != count or len({line["id"] for line in lines}) != count:
        faults.append(f"{len(lines)} lines for {count} cases")
    if wrong := {line["id"] for line in lines if line["status"] != "done"} ^ bad:
        faults.append(f"listed as bad and not, or the other way: {sorted(wrong)}")
    expected, found = hash_tree(plain), hash_tree(output)
    if differ := {key for key in expected | found if expected.get(key) != found.get(key)}:
        faults.append(f"{len(differ)} files differ, such as {min(differ)}")
    return faults


def main() -> None:
    """Run, check, print and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=500)
    parser.add_argument("--undisturbed", type=int, default=200, help="cases of a run for its time")
    parser.add_argument("--data", type=Path, default=DATA, help="where the simulation reads")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".md"))
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        manifest, bad = write_cases(folder, chosen.cases)
        some = manifest.with_name("some.jsonl")
        lines = manifest.read_text(encoding="utf-8").splitlines(keepends=True)
        some.write_text("".join(lines[: chosen.undisturbed]), encoding="utf-8")
        plain, killed_in = folder / "plain", folder / "killed"
        run_timed(manifest, BUNDLE, plain, "--threads", "1", "--timeout", "6000")
        with two_nodes() as nodes:
            ran = run_ray(nodes, some, folder / "ray")
            keep({"two_nodes": ran}, chosen.data)
            killed = run_killed(nodes, manifest, killed_in, after=chosen.cases // 2)
        faults = find_faults(plain, killed_in, bad, chosen.cases)
        files = len(hash_tree(plain))
    if faults:
        sys.exit("\n".join(faults))
    text = format_page(chosen.cases, len(bad), files, ran, killed)
    write_text(chosen.output, text)
    print(text)


def format_page(
    count: int, bad: int, files: int, ran: dict[str, Any], killed: dict[str, Any]
) -> str:
    """Return the page."""
    waits = "".join(
        f"| {number} | {1e3 * seconds:.3f} |\n" for number, seconds in ran["wait_s"].items()
    )
    read = [store for store in (ran["store"], killed["store"]) if store is not None]
    stores = "In the object stores: not read, for want of grpcio. "
    if read:
        stores = (
            f"In the object stores: {max(each[0] for each in read):.0f} MB and "
            f"{max(each[1] for each in read)} objects at most, after the first run and in the "
            "middle of the second. "
        )
    return (
        f"# Two Ray nodes, one killed amid {count} cases: `benchmarks/ray_nodes.py`\n\n"
        f"Two nodes on one machine, each one core and an object store of 100 MB; bundle "
        f"`{BUNDLE}`, pictures, NIfTI files and DICOM images of about 48 x 64, {bad} damaged. "
        f"{ran['machine']}; load {ran['load'][0]:.1f} before and {ran['load'][1]:.1f} after, "
        "from other work: the seconds show nothing but order.\n\n"
        "| run | s | cases that ran twice |\n|---|---|---|\n"
        f"| {len(ran['cases'])} cases by two nodes | {ran['wall_s']:.0f} | 0 |\n"
        f"| {count} cases, a node killed after {killed['killed_s']:.0f} s, with "
        f"{killed['processes']} processes | {killed['wall_s']:.0f} | {killed['repeated']} |\n\n"
        f"With a node killed: each case once in the list, the {bad} damaged ones refused and no "
        f"other, and the bytes of a run by one process in all {files} files. Nodes left: "
        f"{killed['nodes_left']}.\n\n"
        "## What Ray holds and costs\n\n"
        f"{stores}Jobs and records are paths and numbers and travel in the messages; "
        "no voxel enters the store.\n\n"
        f"The head spends {1e3 * ran['head_s_per_case']:.1f} ms of processor time on a case. "
        "It waits for one answer of all its workers, which costs more the more there are:\n\n"
        "| workers | ms of one wait |\n|---|---|\n"
        f"{waits}"
    )


if __name__ == "__main__":
    main()
