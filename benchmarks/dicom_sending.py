"""Results sent on and work items performed, on loopback: killed at random, cancelled, and timed.

Run with PYTHONPATH=tests; `--part orthanc` needs Orthanc, and runs it in a network namespace.
Writes dicom_sending.md, one part at a time.
"""

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pydicom

import performer_program
from archive_for_tests import Archive, write_results
from bedside.runtime.machine import describe_processor, read_load
from bedside.system.atomic import write_text
from ups_for_tests import UpsServer, make_work_item

HERE = Path(__file__).parent
SENDING_PROGRAM = """
import sys
from pathlib import Path
from bedside.dicom_node.sending.destination import DicomDestination, RetryPolicy
from bedside.dicom_node.sending.sender import Sender
from bedside.service.jobs import JobStore

state, port, folder = sys.argv[1:]
retry = RetryPolicy(first_s=0.05, longest_s=0.2)
peer = DicomDestination("pacs", "127.0.0.1", int(port), "ARCHIVE", retry=retry)
with JobStore(Path(state)) as store:
    sender = Sender(store, [peer])
    for path in sorted(Path(folder).glob("*.dcm")):
        sender.order(path.name, [path], "pacs")
    sender.start()
    sys.stdin.read()
"""


class Killed:
    """Processes that are started again whenever they are killed."""

    def __init__(self, commands: list[list[str]]) -> None:
        self._commands = commands
        self._processes = [self._start(command) for command in commands]
        self.kills = 0

    @staticmethod
    def _start(command: list[str]) -> subprocess.Popen:
        return subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def kill(self) -> None:
        """Kill one of them and start it again."""
        number = random.randrange(len(self._commands))
        self._end(self._processes[number])
        self._processes[number] = self._start(self._commands[number])
        self.kills += 1

    def close(self) -> None:
        """Kill all of them."""
        for process in self._processes:
            self._end(process)

    @staticmethod
    def _end(process: subprocess.Popen) -> None:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdin.close()


def harass(killed: Killed, is_done: Callable[[], bool], kills: int, pause_s: float) -> float:
    """Kill at random moments until all is done; return the seconds it took."""
    begin = time.perf_counter()
    while not is_done():
        time.sleep(random.uniform(0.2, 2 * pause_s))
        if killed.kills < kills:
            killed.kill()
    seconds = time.perf_counter() - begin
    killed.close()
    return seconds


def run_sending(folder: Path, given: argparse.Namespace) -> list[str]:
    """Deliver files by a sender that is killed."""
    count = given.count or 200
    seg = pydicom.dcmread(write_results(folder / "image")[0])
    (files := folder / "files").mkdir()
    for number in range(count):
        seg.SOPInstanceUID = seg.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{number}"
        seg.save_as(files / f"{number:04d}.dcm", enforce_file_format=True)
    with Archive() as archive:
        command = [sys.executable, "-c", SENDING_PROGRAM, str(folder / "state")]
        killed = Killed([[*command, str(archive.port), str(files)]])
        seconds = harass(killed, lambda: len(archive.kept) == count, given.kills, 1.0)
        often = [uid for uid, times in archive.received.items() if times > 1]
    return [
        f"| deliveries by C-STORE, each asked for by C-FIND | {count} |",
        f"| kills of the sender | {killed.kills} |",
        f"| files in the archive | {len(archive.kept)} |",
        f"| files that arrived more than once | {len(often)} |",
        f"| seconds, starts of Python included | {seconds:.0f} |",
    ]


def run_performers(folder: Path, given: argparse.Namespace) -> list[str]:
    """Complete work items by several performers that are killed."""
    count, performers = given.count or 500, given.performers
    image = write_results(folder / "image")[0].with_name("image.dcm")
    with UpsServer() as ups, Archive() as archive:
        for number in range(count):
            ups.schedule(make_work_item(f"1.2.{number}", [image]), [image])
        program = [sys.executable, performer_program.__file__]
        rest = [ups.url, str(archive.port), str(image)]
        killed = Killed([[*program, str(folder / str(n)), *rest] for n in range(performers)])

        def is_done() -> bool:
            return all(ups.state(uid) == "COMPLETED" for uid in ups.items)

        seconds = harass(killed, is_done, given.kills, 2.0)
        completions, claims = ups.completions, ups.claims
        often = [uid for uid, times in archive.received.items() if times > 1]
    return [
        f"| work items, by {performers} performers | {count} |",
        f"| kills | {killed.kills} |",
        f"| completed once | {sum(times == 1 for times in completions.values())} |",
        f"| completed more than once | {sum(times > 1 for times in completions.values())} |",
        f"| claimed more than once | {sum(times > 1 for times in claims.values())} |",
        f"| results in the archive | {len(archive.kept)} |",
        f"| results that arrived more than once | {len(often)} |",
        f"| claims, updates and completions refused by the worklist | {ups.conflicts} |",
        f"| seconds, starts of Python included | {seconds:.0f} |",
    ]


def run_cancel(folder: Path, given: argparse.Namespace) -> list[str]:
    """Measure from a request to cancel to the work item being canceled, while work goes on."""
    from bedside.dicom_node.sending.destination import DicomDestination, WebDestination
    from bedside.dicom_node.sending.sender import Sender
    from bedside.dicom_node.ups.performer import PerformerSettings
    from bedside.dicom_node.ups.service import Peers, PerformerService
    from bedside.dicom_node.ups.ups_rs import WorklistService
    from bedside.service.jobs import JobStore

    count = given.count or 20
    image = write_results(folder / "image")[0].with_name("image.dcm")
    began, ended, waits_s = threading.Event(), threading.Event(), []

    def work(item: object, inputs: Path, outputs: Path, report: object) -> None:
        began.set()
        ended.wait()  # it looks at nothing until it has been canceled

    with UpsServer() as ups, Archive() as archive, JobStore(folder / "state") as store:
        peers = Peers(WorklistService(ups.url), WebDestination("images", ups.url))
        peer = DicomDestination("pacs", "127.0.0.1", archive.port, "ARCHIVE")
        settings = PerformerSettings("pacs", look_s=0.05)
        with (
            Sender(store, [peer]) as sender,
            PerformerService(store, peers, sender, work, settings) as service,
        ):
            service.start()
            for number in range(count):
                ups.schedule(make_work_item(f"1.2.{number}", [image]), [image])
                began.wait()
                began.clear()
                while not ups.has_channel("BEDSIDE"):
                    time.sleep(0.01)
                begin = time.perf_counter()
                ups.request_cancel(f"1.2.{number}")
                ups.wait_until([f"1.2.{number}"], "CANCELED")
                waits_s.append(time.perf_counter() - begin)
                ended.set()
                while store.find("work item", f"1.2.{number}").state != "canceled":
                    time.sleep(0.01)
                ended.clear()
    return [
        f"| requests to cancel, to an item whose work looks at nothing | {count} |",
        f"| median to CANCELED at the worklist | {statistics.median(waits_s) * 1e3:.0f} ms |",
        f"| longest | {max(waits_s) * 1e3:.0f} ms |",
    ]


def run_orthanc(folder: Path, given: argparse.Namespace) -> list[str]:
    """Measure from the release of an association to the SEG in Orthanc's QIDO-RS."""
    command = [
        "unshare", "-rn", "sh", "-c", 'ip link set lo up && exec "$@"', "sh", sys.executable,
        __file__, "--inside", str(folder), "--count", str(given.count or 10),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    rows = json.loads(done.stdout.splitlines()[-1])
    return [
        f"| {name}, {len(times)} cines | {statistics.median(times):.2f} s | {max(times):.2f} s |"
        for name, times in rows.items()
    ]


def measure_orthanc(folder: Path, count: int) -> dict[str, list[float]]:
    """Return the seconds that `run_orthanc` asks for; in its namespace."""
    import httpx

    from bedside.dicom_node.config import DicomSettings, PeerLimits, Route, Sender
    from bedside.dicom_node.node import DicomNode
    from bedside.dicom_node.sending.destination import DicomDestination, WebDestination
    from bedside.service.engine import Engine
    from bedside.service.jobs import JobStore
    from bedside.service.settings import EngineSettings, ServedModel
    from makers import make_dicom, make_fan, make_region, write_dicom
    from orthanc_for_tests import AE_TITLE, DICOM_PORT, NODE_PORT, URL, Orthanc

    orthanc, rows = Orthanc(folder), {}
    destinations = {
        "C-STORE": {"archive": (DicomDestination("o", "127.0.0.1", DICOM_PORT, AE_TITLE),)},
        "STOW-RS": {"web_archive": (WebDestination("o", URL),)},
    }
    for name, archives in destinations.items():
        settings = DicomSettings(
            port=NODE_PORT, route=(Route("camus-4ch"),), limits=PeerLimits(free_mb=1),
            sender=(Sender("STORESCU", "qido", url=URL),), **archives,
        )  # fmt: skip
        models = EngineSettings((ServedModel("camus-4ch", pinned=True),))
        with Engine(models) as engine, JobStore(folder / f"state-{name}") as store:
            engine.start()
            while not engine.is_ready:
                time.sleep(0.05)
            segmented_s = []

            def note(text: str, times: list[float] = segmented_s) -> None:
                if text.endswith("segmented"):
                    times.append(time.perf_counter())

            with DicomNode(settings, engine, store, on_event=note) as node:
                node.start()
                rows[name], rows[f"{name}, from the SEG on disk"] = [], []
                for number in range(count):
                    study = f"1.2.{len(name)}.{len(rows)}.{number + 1}"
                    tags = {"StudyInstanceUID": study, "SeriesInstanceUID": f"{study}.1",
                            "SOPInstanceUID": f"{study}.1.1"}  # fmt: skip
                    frames = make_fan(30, 480, 640, seed=number)
                    region = make_region((0, 0, 639, 479))
                    image = make_dicom(frames, regions=[region], tags=tags)
                    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID
                    path = write_dicom(image, folder / f"{study}.dcm")
                    for port, title in ((DICOM_PORT, AE_TITLE), (NODE_PORT, "BEDSIDE")):
                        subprocess.run(
                            ["/usr/bin/storescu", "-aec", title, "127.0.0.1", str(port), path],
                            check=True,
                        )
                    begin = time.perf_counter()
                    query = f"{URL}/studies/{study}/series?Modality=SEG"
                    while not httpx.get(query).json():
                        time.sleep(0.02)
                    now = time.perf_counter()
                    rows[name].append(now - begin)
                    rows[f"{name}, from the SEG on disk"].append(now - segmented_s[-1])
    orthanc.close()
    return rows


RUNS = {
    "sending": run_sending, "performers": run_performers, "cancel": run_cancel,
    "orthanc": run_orthanc,
}  # fmt: skip
PARTS = tuple(RUNS)
TITLES = {
    "sending": "## A sender that is killed\n\n| | |\n|---|---|",
    "performers": "## Performers of one worklist that are killed\n\n| | |\n|---|---|",
    "cancel": "## Cancelled work\n\n| | |\n|---|---|",
    "orthanc": (
        "## From the release of the association to the SEG in QIDO-RS\n\n"
        "A film of 30 frames, 480 x 640, by `storescu`; `camus-4ch`; Orthanc 1.10.1.\n\n"
        "| results by | median | longest |\n|---|---|---|"
    ),
}


def main() -> None:
    """Run the parts that are asked for, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=PARTS, action="append")
    parser.add_argument("--count", type=int)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--performers", type=int, default=8)
    parser.add_argument("--inside", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.inside:
        print(json.dumps(measure_orthanc(given.inside, given.count)))
        return
    kept = HERE / "dicom_sending.json"
    tables = json.loads(kept.read_text()) if kept.exists() else {}
    for part in given.part or PARTS:
        with tempfile.TemporaryDirectory(prefix="bedside-sending-") as name:
            tables[part] = RUNS[part](Path(name), given)
        tables[part].append(f"\nLoad of the machine in the last minute of it: {read_load():.0f}.")
        print("\n".join(tables[part]))
    write_text(kept, json.dumps(tables, indent=1) + "\n")
    head = (
        "# Results sent on, and work items\n\nWritten by `benchmarks/dicom_sending.py` on "
        f"{describe_processor()}; everything on loopback of this machine, which did other work."
    )
    parts = [f"{TITLES[part]}\n" + "\n".join(tables[part]) for part in PARTS if part in tables]
    write_text(HERE / "dicom_sending.md", "\n\n".join([head, *parts]) + "\n")


if __name__ == "__main__":
    main()
