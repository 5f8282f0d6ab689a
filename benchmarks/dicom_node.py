"""The DICOM node against dcmtk's storescp, against hostile peers, and against kill -9.

    python benchmarks/dicom_node.py [speed] [hostile] [kills]

The node is `bedside serve` in a process of its own. Writes what was measured to dicom_node.md.
"""

import argparse
import contextlib
import functools
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "tests"))  # series to send, and peers that break rules

from archive_for_tests import Archive, find_port  # noqa: E402
from bedside.dicom_node.series import CONFIRMED, FAILED, KIND  # noqa: E402
from bedside.runtime.machine import describe_processor, package_version  # noqa: E402
from bedside.service.jobs import JobStore  # noqa: E402
from dicom_attacks import ATTACKS  # noqa: E402
from dicom_makers import make_slices, write_series  # noqa: E402
from dicom_node_for_tests import write_cine  # noqa: E402
from raw_dicom_for_tests import DATA, RawPeer, make_echo, make_store  # noqa: E402

SLICES, SERIES, KILLS = 675, 100, 50
CONFIG = """
state = "{folder}/state"
threads = 1
[http]
port = 0
health_port = 0
[dicom]
port = {port}
settle_s = 1
on_disk = "{on_disk}"
[[dicom.route]]
model = "camus-4ch"
modality = "US"
"""
ARCHIVE = """
[[dicom.archive]]
name = "pacs"
host = "127.0.0.1"
port = {archive}
ae_title = "ARCHIVE"
retry = {{first_s = 0.05, longest_s = 0.5}}
"""


class Node:
    """`bedside serve`, killed at the end.

    Args:
        folder: For its state and its configuration.
        config: What is added to the configuration.
        port: That it listens on.
        on_disk: Its setting.
    """

    def __init__(
        self, folder: Path, config: str = "", *, port: int | None = None, on_disk: str = "series"
    ) -> None:
        self.address = ("127.0.0.1", port or find_port())
        (folder / "serve.toml").write_text(
            CONFIG.format(folder=folder, port=self.address[1], on_disk=on_disk) + config
        )
        command = [sys.executable, "-m", "bedside", "serve", "--config", folder / "serve.toml"]
        self.process = subprocess.Popen(list(map(str, command)), stderr=subprocess.DEVNULL)
        until = time.monotonic() + 120
        while not is_listening(self.address):
            if time.monotonic() > until or self.process.poll() is not None:
                raise SystemExit("the server does not start")
            time.sleep(0.02)

    @property
    def memory_mib(self) -> float:
        """Its resident memory."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    @property
    def connections(self) -> int:
        """Its established TCP connections."""
        port = f":{self.address[1]:04X}"
        rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return sum(row[1].endswith(port) and row[3] == "01" for row in rows)

    @property
    def processor_s(self) -> float:
        """Processor time of all its threads."""
        values = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(values[11]) + int(values[12])) / os.sysconf("SC_CLK_TCK")

    def await_rest(self) -> None:
        """Wait until it is done with its start, which goes on after it listens."""
        before = -1.0
        while (now := self.processor_s) - before > 0.02:
            before = now
            time.sleep(0.5)

    def kill(self) -> None:
        """Kill it."""
        self.process.kill()
        self.process.wait()


def is_listening(address: tuple[str, int]) -> bool:
    """Whether anybody listens there."""
    try:
        with RawPeer(address):
            return True
    except ConnectionError:
        return False


@contextlib.contextmanager
def running(
    folder: Path, config: str = "", *, port: int | None = None, on_disk: str = "series"
) -> Iterator[Node]:
    """A node within a block."""
    node = Node(folder, config, port=port, on_disk=on_disk)
    try:
        yield node
    finally:
        node.kill()


def send(port: int, folder: Path, environment: dict[str, str] | None = None) -> float:
    """Send a folder with storescu; return the seconds it took."""
    begun = time.perf_counter()
    subprocess.run(
        ["storescu", "-aec", "BEDSIDE", "+sd", "127.0.0.1", str(port), str(folder)],
        check=True,
        env={**os.environ, **(environment or {})},
    )
    return time.perf_counter() - begun


def write_scan(folder: Path, slices: int, *, series: str, seed: int) -> Path:
    """Write a scan of 512 x 512 slices."""
    values = np.random.default_rng(seed).integers(0, 1000, (slices, 512, 512), np.uint16)
    write_series(make_slices(values, series=series), folder, seed=None)
    return folder


@contextlib.contextmanager
def storing(folder: Path, environment: dict[str, str]) -> Iterator[int]:
    """Run dcmtk's storescp within a block; its port."""
    port = find_port()
    folder.mkdir()
    scp = subprocess.Popen(
        ["storescp", "--quiet", "--max-pdu", "131072", "-od", str(folder), str(port)],
        env={**os.environ, **environment},
    )
    try:
        while not is_listening(("127.0.0.1", port)):
            time.sleep(0.01)
        yield port
    finally:
        scp.kill()
        scp.wait()
        shutil.rmtree(folder)


@contextlib.contextmanager
def fresh_node(
    folder: Path, _environment: dict[str, str], *, on_disk: str = "series"
) -> Iterator[int]:
    """A node that has received nothing yet, and is done with its start; its port."""
    folder.mkdir()
    try:
        with running(folder, on_disk=on_disk) as node:
            node.await_rest()
            yield node.address[1]
    finally:
        shutil.rmtree(folder)


fresh_node_synced = functools.partial(fresh_node, on_disk="image")


def send_both(port: int, folders: tuple[Path, Path], environment: dict[str, str]) -> float:
    """Send two folders at once; return the seconds until both are sent."""
    begun = time.perf_counter()
    both = [threading.Thread(target=send, args=(port, folder, environment)) for folder in folders]
    for each in both:
        each.start()
    for each in both:
        each.join()
    return time.perf_counter() - begun


def measure_speed(folder: Path, rounds: int) -> list[str]:
    """Return rows about sending 675 slices, and about two senders at once."""
    scan = write_scan(folder / "scan", SLICES, series="one", seed=0)
    other = write_scan(folder / "other", SLICES, series="two", seed=1)
    fast = {"TCP_NODELAY": "1"}
    programs = {
        "storescp, as installed": (storing, {}),
        "the node, dcmtk as installed": (fresh_node, {}),
        "storescp": (storing, fast),
        "the node": (fresh_node, fast),
        'the node, `on_disk = "image"`': (fresh_node_synced, fast),
    }
    taken: dict[str, list[float]] = {name: [] for name in programs}
    two, one = [], []
    for _ in range(rounds):
        for name, (program, environment) in programs.items():
            with program(folder / "place", environment) as port:
                taken[name].append(send(port, scan, environment))
        with fresh_node(folder / "node", fast) as port:
            two.append(send_both(port, (scan, other), fast))
        one.append(taken["the node"][-1])
    rows = [
        f"## {SLICES} slices of 512 x 512 by `storescu`",
        "",
        f"Medians of {rounds} interleaved rounds, in seconds; PDUs of 128 KiB. Ratios are medians "
        "of those of each round, to storescp with the same setting. dcmtk as installed waits 40 ms "
        "for each image, for an acknowledgement that TCP delays; its environment variable "
        "TCP_NODELAY=1 ends that, for both programs. storescp leaves images in the page cache, as "
        'the node does until their series is complete; with `on_disk = "image"` each is on disk '
        "(fdatasync, fsync of its folder) before it is acknowledged.",
        "",
        "| receiver | seconds | ratio | smallest ratio |",
        "|---|---|---|---|",
    ]
    for name, seconds in taken.items():
        peer = "storescp, as installed" if "as installed" in name else "storescp"
        ratios = [a / b for a, b in zip(seconds, taken[peer], strict=True)]
        rows.append(
            f"| {name} | {statistics.median(seconds):.2f} | {statistics.median(ratios):.2f} | "
            f"{min(ratios):.2f} |"
        )
    kept = statistics.median(2 * a / b for a, b in zip(one, two, strict=True))
    rows += [
        "",
        f"Two senders at once, {SLICES} slices of its own series each: {statistics.median(two):.2f}"
        f" s for both, {100 * kept:.0f} % of the rate of one.",
    ]
    return rows


def time_echo(address: tuple[str, int]) -> float:
    """Seconds for a connection, an association and a C-ECHO."""
    begun = time.perf_counter()
    with RawPeer(address) as peer:
        peer.associate()
        peer.send(make_echo())
        assert peer.read()[0] == DATA
    return time.perf_counter() - begun


def time_store(address: tuple[str, int], image: bytes) -> float:
    """Seconds for a connection, an association and a C-STORE that is answered."""
    begun = time.perf_counter()
    command, pieces = make_store(image, uid="1.2.3.4")
    with RawPeer(address) as peer:
        peer.associate()
        peer.send(command + b"".join(pieces))
        assert peer.read()[0] == DATA
    return time.perf_counter() - begun


def watch(node: Node, attack: Callable[[tuple[str, int], threading.Event], None]) -> str:
    """Attack while C-ECHO is timed; return the cells of a row."""
    for _ in range(3):
        time_echo(node.address)
    before, stop, echoes, most = node.memory_mib, threading.Event(), [], 0.0
    thread = threading.Thread(target=attack, args=(node.address, stop))
    thread.start()
    until = time.monotonic() + 10
    while thread.is_alive():
        echoes.append(time_echo(node.address))
        most = max(most, node.memory_mib)
        if time.monotonic() > until:
            stop.set()
        time.sleep(0.05)
    time.sleep(max(0.0, until - time.monotonic()))
    alive, stored = node.connections, time_store(node.address, b"\x08\x00" * 500)
    stop.set()
    thread.join()
    return (
        f"{1000 * statistics.median(echoes):.0f} | {1000 * max(echoes):.0f} | "
        f"{1000 * stored:.0f} | {most - before:+.1f} | {alive}"
    )


def measure_hostile(folder: Path) -> list[str]:
    """Return rows about hostile peers."""
    rows = [
        "## Hostile peers",
        "",
        "Each attack goes on for 10 s or until it has done its number. C-ECHO with its association "
        "is timed all the while, a C-STORE of 1 kB afterwards, in ms. Memory is the largest growth "
        "of the server, in MiB. Alive are connections of the attack 10 s after its beginning.",
        "",
        "| attack | C-ECHO median | largest | C-STORE after | memory | alive |",
        "|---|---|---|---|---|---|",
    ]
    place = folder / "hostile"
    place.mkdir()
    with running(place) as node:
        for _ in range(20):  # what the server loads at first use is not the attack's
            time_echo(node.address)
            time_store(node.address, bytes(1000))
        for name, attack in ATTACKS.items():
            rows.append(f"| {name} | {watch(node, attack)} |")
            print(rows[-1], flush=True)
    return rows


def measure_kills(folder: Path) -> list[str]:
    """Return rows about a node that is killed while it receives, segments and sends."""
    place, chance = folder / "kills", random.Random(0)
    place.mkdir()
    images = []
    for number in range(SERIES):

        def name(dataset, number=number):
            dataset.SeriesInstanceUID, dataset.SOPInstanceUID = f"1.2.{number}", f"1.3.{number}"

        images.append(write_cine(place / f"{number}.dcm", frames=2, edit=name))
    port, kills, begun = find_port(), 0, time.monotonic()
    with Archive() as archive:
        config = ARCHIVE.format(archive=archive.port)
        while images or kills < KILLS:
            with running(place, config, port=port) as node:
                end = time.monotonic() + chance.random() * 3
                killer = threading.Timer(end - time.monotonic(), node.kill)
                if kills < KILLS:
                    killer.start()
                while images and node.process.poll() is None:
                    done = subprocess.run(
                        ["storescu", "-aec", "BEDSIDE", "127.0.0.1", str(port), str(images[0])],
                        stderr=subprocess.DEVNULL,
                        check=False,
                    )
                    if done.returncode == 0:
                        images.pop(0)
                if kills < KILLS:
                    killer.join()
                    kills += 1
                    continue
        with running(place, config, port=port), JobStore(place / "state") as store:
            while (
                len(store.list(KIND, [CONFIRMED, FAILED])) < SERIES
                and time.monotonic() < begun + 3600
            ):
                time.sleep(0.2)
            states = {state: n for (kind, state), n in store.count().items() if kind == KIND}
    twice = sum(count > 1 for count in archive.received.values())
    return [
        f"## kill -9 at {kills} random moments of an intake of {SERIES} series, sending on",
        "",
        "| series acknowledged | states at the end | results in the archive | sent twice |",
        "|---|---|---|---|",
        f"| {SERIES} | {states} | {len(archive.kept)} | {twice} |",
    ]


def write_page(part: list[str]) -> None:
    """Put a part into the page, in the place of an earlier one with its title."""
    page = HERE / "dicom_node.md"
    head = (
        f"# The DICOM node\n\nWritten by `benchmarks/dicom_node.py` on {describe_processor()}; "
        f"pynetdicom {package_version('pynetdicom')}.\n"
    )
    load = f"Load of the machine, this included: {os.getloadavg()[1]:.0f} on 2 cores."
    found = page.read_text("utf-8").split("\n## ")[1:] if page.exists() else []
    parts = {text.split()[0]: text.strip() for text in found}
    new = "\n".join([*part, "", load]).removeprefix("## ")
    parts[new.split()[0]] = new
    ordered = [text for _, text in sorted(parts.items())]
    page.write_text("\n## ".join([head, *(f"{text}\n" for text in ordered)]), "utf-8")
    print(new, flush=True)


def main() -> None:
    """Measure what was asked for, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", default=["speed", "hostile", "kills"])
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dicom-node-") as name:
        folder = Path(name)
        measures = {
            "speed": lambda: measure_speed(folder, arguments.rounds),
            "hostile": lambda: measure_hostile(folder),
            "kills": lambda: measure_kills(folder),
        }
        for part in arguments.parts:
            write_page(measures[part]())


if __name__ == "__main__":
    main()
