"""The HTTP door under load: latency alone, then an open loop at a multiple of the capacity.

    python benchmarks/serve.py --page

A server in a process of its own is measured over loopback by this process, on the same cores, in
rounds of three parts, so that whatever else the machine does falls on all of them. Latency alone is
that of one request after another. Capacity is that of two clients, as many as the server has slots,
each sending one request after another. In the open loop requests come at fixed times, at a multiple
of the capacity of that round, whether or not earlier ones are answered; refused ones are not
repeated. Meanwhile the listener for health is asked ten times a second.

Then `--masks` images, each another, are sent by two threads, and every mask is compared with that
of the library. Writes the table of serve.md.
"""

import argparse
import asyncio
import contextlib
import gzip
import hashlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

import bedside

CONFIG = """
slots = {slots}
queue = {queue}
[[model]]
name = "{model}"
pinned = true
[[model]]
name = "hc18-head"
pinned = true
[http]
port = 0
health_port = 0
"""


def make_png(seed: int) -> bytes:
    """An ultrasound sector of soft noise as a PNG, 256 x 256."""
    rows, columns = np.mgrid[0:256, 0:256]
    reach, angle = np.hypot(rows, columns - 128), np.arctan2(columns - 128, rows + 1e-6)
    sector = (np.abs(angle) < 0.65) & (reach > 20) & (reach < 235)
    noise = np.random.default_rng(seed).integers(30, 226, (32, 32), np.uint8)
    soft = np.asarray(Image.fromarray(noise).resize((256, 256), Image.Resampling.BICUBIC))
    file = io.BytesIO()
    Image.fromarray(np.where(sector, soft, 0).astype(np.uint8)).save(file, "png")
    return file.getvalue()


@contextlib.contextmanager
def running(settings):
    """A server, with its addresses and the time until its first answer."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "serve.toml"
        path.write_text(CONFIG.format(**vars(settings)))
        log = Path(folder) / "log"
        begun = time.perf_counter()
        with log.open("w") as file:
            process = subprocess.Popen(
                [sys.executable, "-m", "bedside", "serve", "--config", str(path)], stderr=file
            )
        try:
            while len(places := re.findall(r"http://[\d.:]+\d(?=[\n/])", log.read_text())) < 2:
                assert process.poll() is None, log.read_text()
                time.sleep(0.005)
            address, health = places
            urllib.request.urlopen(f"{address}/health/live").close()
            start_s = time.perf_counter() - begun, cpu_s(process.pid)
            yield process, address, health, start_s
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)


def cpu_s(pid: int) -> float:
    """Processor time of a process: what its start takes if nothing else runs."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mb(pid: int) -> float:
    """Memory of a process and its children, in MiB, pages that they share counted once."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    children = [each for task in tasks for each in (task / "children").read_text().split()]
    total = 0
    for each in (str(pid), *children):
        found = re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{each}/smaps_rollup").read_text(), re.M)
        total += int(found[1])
    return total / 1024


EXPECTED: dict[bytes, bytes] = {}
"""The mask of each image, as it came when nobody else asked."""


class Client:
    """Requests over connections that are kept; it costs little, as it shares the server's cores.

    Args:
        address: Of the server.
    """

    def __init__(self, address: str) -> None:
        self._place = address.removeprefix("http://").split(":")
        self._idle = []

    async def ask(self, method: str, path: str, body: bytes = b"", *, head: str = ""):
        """Status, content and headers of an answer."""
        # Connections that nobody uses are closed by the server.
        self._idle = [each for each in self._idle if not each[0].at_eof()]
        reader, writer = self._idle.pop() if self._idle else await self.connect()
        writer.write(
            f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{head}"
            f"Content-Length: {len(body)}\r\n\r\n".encode() + body
        )  # fmt: skip
        first, *rows = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(row.lower().split(": ", 1) for row in rows if row)
        content = await reader.readexactly(int(headers["content-length"]))
        if headers.get("connection") == "close":
            writer.close()
        else:
            self._idle.append((reader, writer))
        return int(first.split()[1]), content, headers

    async def connect(self):
        """A reader and a writer of a new connection."""
        return await asyncio.open_connection(*self._place)

    def close(self) -> None:
        """Close the connections."""
        for _, writer in self._idle:
            writer.close()


async def post(client: Client, model: str, body: bytes) -> tuple[int, float]:
    """Status and seconds of a request; a mask of another image is an error."""
    begun = time.perf_counter()
    status, mask, headers = await client.ask("POST", f"/segment?model={model}&format=png", body)
    took = time.perf_counter() - begun
    if status == 200:
        assert EXPECTED.setdefault(body, mask) == mask
    else:
        assert status != 503 or int(headers["retry-after"]) > 0
    return status, took


async def closed_loop(client, model, bodies, *, clients: int, seconds: float) -> list[float]:
    """Seconds of all requests of clients that send one after another."""
    until, found = time.perf_counter() + seconds, []

    async def send(number: int) -> None:
        while time.perf_counter() < until:
            status, took = await post(client, model, bodies[(number + len(found)) % len(bodies)])
            assert status == 200, status
            found.append(took)

    await asyncio.gather(*map(send, range(clients)))
    return found


async def open_loop(client, model, bodies, *, rate: float, seconds: float):
    """(status, seconds) of requests that come at fixed times."""
    begun, tasks = time.perf_counter(), []
    for number in range(int(rate * seconds)):
        await asyncio.sleep(max(0.0, begun + number / rate - time.perf_counter()))
        tasks.append(asyncio.create_task(post(client, model, bodies[number % len(bodies)])))
    found = await asyncio.gather(*tasks)
    return found, time.perf_counter() - begun


async def resist(client: Client, model: str, body: bytes) -> dict:
    """Time of a request beside hostile clients, and what they get."""
    slow = [await client.connect() for _ in range(200)]
    for _, writer in slow:
        writer.write(b"POST /segment HTTP/1.1\r\nX: ")
    status, beside_s = await post(client, model, body)
    reader, writer = await client.connect()
    begun = time.perf_counter()
    writer.write(b"POST /segment?model=%s HTTP/1.1\r\nHost: localhost\r\n"
                 b"Content-Length: 4294967296\r\n\r\n" % model.encode())  # fmt: skip
    claim = (await reader.readline()).decode().split()[1]
    claim_s = time.perf_counter() - begun
    bomb, *_ = await client.ask(
        "POST", f"/segment?model={model}", gzip.compress(bytes(2**26)),
        head="Content-Encoding: gzip\r\n",
    )  # fmt: skip
    for _, each in slow:
        each.close()
    writer.close()
    return {
        "beside_200_slow_heads": status, "beside_200_slow_heads_ms": round(1e3 * beside_s, 1),
        "claim_of_4_gib": int(claim), "claim_of_4_gib_ms": round(1e3 * claim_s, 1),
        "gzip_bomb": bomb,
    }  # fmt: skip


async def watch_health(health: str, stop: asyncio.Event, found: list[float]) -> None:
    """Ask for health ten times a second, and note the seconds."""
    client = Client(health)
    while not stop.is_set():
        begun = time.perf_counter()
        assert (await client.ask("GET", "/health"))[0] == 200
        found.append(time.perf_counter() - begun)
        await asyncio.sleep(0.1)
    client.close()


@dataclass
class Found:
    """Seconds of all requests of the rounds.

    Attributes:
        alone: Of one client.
        two: Of two clients.
        accepted: Answered in the open loop.
        refused: Refused there.
        other: Statuses of the rest.
        health: Of the listener for health, meanwhile.
        capacities: Requests a second of two clients, by round.
        goodputs: Requests a second answered in the open loop over the capacity, by round.
    """

    alone: list[float] = field(default_factory=list)
    two: list[float] = field(default_factory=list)
    accepted: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    other: list[int] = field(default_factory=list)
    health: list[float] = field(default_factory=list)
    capacities: list[float] = field(default_factory=list)
    goodputs: list[float] = field(default_factory=list)


async def run_round(client: Client, health: str, bodies, settings, found: Found) -> None:
    """One client, two clients, the open loop."""
    model, seconds = settings.model, settings.seconds
    found.alone += await closed_loop(client, model, bodies, clients=1, seconds=seconds)
    begun = time.perf_counter()
    two = await closed_loop(client, model, bodies, clients=2, seconds=seconds)
    capacity = len(two) / (time.perf_counter() - begun)
    stop = asyncio.Event()
    watching = asyncio.create_task(watch_health(health, stop, found.health))
    answers, took = await open_loop(
        client, model, bodies, rate=settings.times * capacity, seconds=seconds
    )
    stop.set()
    await watching
    done = [each for status, each in answers if status == 200]
    found.two += two
    found.accepted += done
    found.refused += [each for status, each in answers if status == 503]
    found.other += [status for status, _ in answers if status not in (200, 503)]
    found.capacities.append(capacity)
    found.goodputs.append(len(done) / took / capacity)


async def measure(address: str, health: str, pid: int, settings) -> dict:
    """All figures of a server that runs."""
    bodies, client, found = [make_png(seed) for seed in range(16)], Client(address), Found()
    while (await client.ask("GET", "/health"))[0] != 200:
        await asyncio.sleep(0.1)
    for body in bodies * 2:
        assert (await post(client, settings.model, body))[0] == 200
    assert len(set(EXPECTED.values())) == len(bodies)
    idle_mb, in_mb = memory_mb(pid), []
    for _ in range(settings.rounds):
        await run_round(client, health, bodies, settings, found)
        in_mb.append(round(memory_mb(pid)))
    hostile = await resist(client, settings.model, bodies[0])
    client.close()
    alone_ms, accepted_ms = quantile_ms(found.alone, 99), quantile_ms(found.accepted, 99)
    return {
        **hostile, "alone_p50_ms": quantile_ms(found.alone, 50), "alone_p99_ms": alone_ms,
        "capacity_per_s": round(float(np.mean(found.capacities)), 1),
        "two_p99_ms": quantile_ms(found.two, 99),
        "answered": len(found.accepted), "refused": len(found.refused), "other": found.other,
        "accepted_p50_ms": quantile_ms(found.accepted, 50), "accepted_p99_ms": accepted_ms,
        "accepted_over_alone_p99": round(accepted_ms / alone_ms, 2),
        "refused_p50_ms": quantile_ms(found.refused, 50),
        "refused_p99_ms": quantile_ms(found.refused, 99),
        "refused_max_ms": quantile_ms(found.refused, 100),
        "goodput_of_capacity": round(float(np.mean(found.goodputs)), 3),
        "health_p50_ms": quantile_ms(found.health, 50),
        "health_max_ms": quantile_ms(found.health, 100),
        "idle_mb": round(idle_mb), "after_rounds_mb": in_mb,
    }  # fmt: skip


def quantile_ms(seconds: list[float], percent: float) -> float | None:
    """A percentile in ms."""
    return round(1e3 * float(np.percentile(seconds, percent)), 1) if seconds else None


def compare_masks(address: str, model: str, count: int) -> dict:
    """Send images, each another, from two threads; compare each mask with the library's."""
    foreign, distinct, seeds = [], set(), iter(range(1000, 1000 + count))
    lock = threading.Lock()

    async def send(loaded) -> None:
        client = Client(address)
        while True:
            with lock:
                seed = next(seeds, None)
            if seed is None:
                break
            body = make_png(seed)
            status, mask, _ = await client.ask("POST", f"/segment?model={model}&format=png", body)
            assert status == 200, mask
            labels = np.asarray(Image.open(io.BytesIO(mask)))
            expected = loaded.segment(body).labels
            with lock:
                distinct.add(hashlib.sha256(labels.tobytes()).digest())
                if not np.array_equal(labels, expected.reshape(labels.shape)):
                    foreign.append(seed)
        client.close()

    begun = time.perf_counter()
    with bedside.load(model, precision="default") as loaded, ThreadPoolExecutor(2) as threads:
        for each in [threads.submit(asyncio.run, send(loaded)) for _ in range(2)]:
            each.result()
    return {
        "masks": count, "masks_distinct": len(distinct), "masks_foreign": len(foreign),
        "masks_s": round(time.perf_counter() - begun),
    }  # fmt: skip


PAGE = """# The HTTP door under load

`python benchmarks/serve.py --page`: `{model}`, ultrasound sectors of 256 x 256 as PNG in, PNG out,
over loopback, from a client on the same {cores} cores; {slots} slots, a queue of {queue}; {rounds}
rounds of one client, two clients and an open loop at {times:g}x the capacity of that round,
{seconds:g} s each. {note}Load average at the start {load}, at the end {load_after}.

| | measured | wanted |
|---|---|---|
| start to the first answer, s (processor time) | {start_s} ({start_cpu_s}) | 2 |
| memory, idle, two models and the process that forks decoders, MiB | {idle_mb} | 350 |
| memory after each round, MiB | {after_rounds_mb} | flat |
| one client, p50 / p99, ms | {alone_p50_ms} / {alone_p99_ms} | |
| capacity with two clients, per s; their p99, ms | {capacity_per_s}; {two_p99_ms} | |
| open loop, answered / refused / other | {answered} / {refused} / {n_other} | |
| accepted p50 / p99, ms | {accepted_p50_ms} / {accepted_p99_ms} | |
| that p99 over one client's | {accepted_over_alone_p99} | 2 |
| goodput, of the capacity | {goodput_of_capacity} | 0.90 |
| refused p50 / p99 / largest, ms | {refused_p50_ms} / {refused_p99_ms} / {refused_max_ms} | 20 |
| health on its own listener, p50 / largest, ms | {health_p50_ms} / {health_max_ms} | 50 |
| a request beside 200 slow heads, ms | {beside_200_slow_heads_ms} | 1000 |
| a claim of 4 GiB: {claim_of_4_gib} after, ms | {claim_of_4_gib_ms} | before buffering |
| gzip bomb | {gzip_bomb} | refused |
| different images from two threads; distinct masks | {masks}; {masks_distinct} | 10,000 |
| of these, masks that differ from the library's | {masks_foreign} | 0 |

"""


def write_page(found: dict, settings) -> None:
    """Write the table, and keep what stands below it."""
    page = Path(__file__).with_suffix(".md")
    kept = page.read_text(encoding="utf-8").partition("\n## ")
    facts = {**found, "after_rounds_mb": ", ".join(map(str, found["after_rounds_mb"])),
             "n_other": len(found["other"]), "note": f"{settings.note} " if settings.note else "",
             "rounds": settings.rounds, "seconds": settings.seconds}  # fmt: skip
    page.write_text(PAGE.format(**facts) + kept[1].lstrip("\n") + kept[2], encoding="utf-8")


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="camus-4ch")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each part of a round")
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--slots", type=int, default=2, help="images at work at a time")
    parser.add_argument("--queue", type=int, default=1, help="images that may wait for a slot")
    parser.add_argument("--times", type=float, default=4.0)
    parser.add_argument("--masks", type=int, default=10_000, help="images that are compared")
    parser.add_argument("--note", default="", help="a sentence for the page on this machine")
    parser.add_argument("--page", action="store_true", help="write serve.md")
    settings = parser.parse_args()
    load = round(os.getloadavg()[0], 1)
    with running(settings) as (process, address, health, start_s):
        found = asyncio.run(measure(address, health, process.pid, settings))
        found.update(compare_masks(address, settings.model, settings.masks))
    found = {
        "model": settings.model, "times": settings.times, "slots": settings.slots,
        "queue": settings.queue, "cores": os.cpu_count(), "load": load,
        "load_after": round(os.getloadavg()[0], 1), "start_s": round(start_s[0], 2),
        "start_cpu_s": round(start_s[1], 2), **found,
    }  # fmt: skip
    print(json.dumps(found, indent=2))
    if settings.page:
        write_page(found, settings)


if __name__ == "__main__":
    main()
