"""The HTTP door under load: latency alone, then an open loop at a multiple of the capacity.

    python benchmarks/serve.py --model camus-4ch --seconds 10 -o benchmarks/serve.json

A server in a process of its own is measured over loopback by this process, on the same cores.
Latency alone is that of one request after another. Capacity is that of two clients, as many as the
server has slots, each sending one request after another. In the open loop requests come at fixed
times, at a multiple of that rate, whether or not earlier ones are answered; refused ones are not
repeated. Meanwhile the listener for health is asked ten times a second.
"""

import argparse
import asyncio
import contextlib
import gzip
import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import numpy as np
from PIL import Image

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
        begun = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "bedside", "serve", "--config", str(path)],
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            lines = (process.stderr.readline() for _ in range(2))
            address, health = (re.search(r"http://[\d.:]+", line)[0] for line in lines)
            httpx.get(f"{address}/health/live").raise_for_status()
            start_s = time.perf_counter() - begun, cpu_s(process.pid)
            # Nobody else reads what it logs.
            os.set_blocking(process.stderr.fileno(), False)
            yield process, address, health, start_s
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)


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


async def post(client: httpx.AsyncClient, model: str, body: bytes) -> tuple[int, float]:
    """Status and seconds of a request; a mask of another image is an error."""
    begun = time.perf_counter()
    answer = await client.post(f"/segment?model={model}&format=png", content=body)
    took = time.perf_counter() - begun
    if answer.status_code == 200:
        assert EXPECTED.setdefault(body, answer.content) == answer.content
    return answer.status_code, took


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


async def resist(client, address: str, model: str, body: bytes) -> dict:
    """Time of a request beside hostile clients, and what they get."""
    host, port = address.removeprefix("http://").split(":")
    slow = [await asyncio.open_connection(host, int(port)) for _ in range(200)]
    for _, writer in slow:
        writer.write(b"POST /segment HTTP/1.1\r\nX: ")
    status, beside_s = await post(client, model, body)
    reader, writer = await asyncio.open_connection(host, int(port))
    begun = time.perf_counter()
    writer.write(b"POST /segment?model=%s HTTP/1.1\r\nHost: localhost\r\n"
                 b"Content-Length: 4294967296\r\n\r\n" % model.encode())  # fmt: skip
    claim = (await reader.readline()).decode().split()[1]
    claim_s = time.perf_counter() - begun
    bomb = await client.post(f"/segment?model={model}", content=gzip.compress(bytes(2**26)),
                             headers={"Content-Encoding": "gzip"})  # fmt: skip
    for _, each in slow:
        each.close()
    writer.close()
    return {
        "beside_200_slow_heads": status, "beside_200_slow_heads_ms": round(1e3 * beside_s, 1),
        "claim_of_4_gib": int(claim), "claim_of_4_gib_ms": round(1e3 * claim_s, 1),
        "gzip_bomb": bomb.status_code,
    }  # fmt: skip


async def watch_health(health: str, stop: asyncio.Event) -> list[float]:
    """Seconds of questions for health."""
    found = []
    async with httpx.AsyncClient(base_url=health, timeout=30) as client:
        while not stop.is_set():
            begun = time.perf_counter()
            (await client.get("/health")).raise_for_status()
            found.append(time.perf_counter() - begun)
            await asyncio.sleep(0.1)
    return found


async def measure(address: str, health: str, pid: int, settings) -> dict:
    """All figures of a server that runs."""
    bodies, model = [make_png(seed) for seed in range(16)], settings.model
    limits = httpx.Limits(max_connections=256, max_keepalive_connections=256)
    async with httpx.AsyncClient(base_url=address, timeout=120, limits=limits) as client:
        while (await client.get("/health")).status_code != 200:
            await asyncio.sleep(0.1)
        for body in bodies:
            assert (await post(client, model, body))[0] == 200
        assert len(set(EXPECTED.values())) == len(bodies)
        idle_mb = memory_mb(pid)
        alone = await closed_loop(client, model, bodies, clients=1, seconds=settings.seconds)
        two = await closed_loop(client, model, bodies, clients=2, seconds=settings.seconds)
        capacity = len(two) / settings.seconds
        before_mb, stop = memory_mb(pid), asyncio.Event()
        watching = asyncio.create_task(watch_health(health, stop))
        found, took = await open_loop(
            client, model, bodies, rate=settings.times * capacity, seconds=settings.seconds
        )
        stop.set()
        asked = await watching
        hostile = await resist(client, address, model, bodies[0])
    done = [seconds for status, seconds in found if status == 200]
    refused = [seconds for status, seconds in found if status == 503]
    return {
        **hostile, "masks_compared": len(alone) + len(two) + len(done),
        "alone_p50_ms": quantile_ms(alone, 50), "alone_p99_ms": quantile_ms(alone, 99),
        "capacity_per_s": round(capacity, 1), "requests": len(found), "answered": len(done),
        "refused": len(refused), "other": len(found) - len(done) - len(refused),
        "accepted_p50_ms": quantile_ms(done, 50), "accepted_p99_ms": quantile_ms(done, 99),
        "refused_p50_ms": quantile_ms(refused, 50), "refused_p99_ms": quantile_ms(refused, 99),
        "goodput_of_capacity": round(len(done) / took / capacity, 3),
        "health_p50_ms": quantile_ms(asked, 50), "health_max_ms": quantile_ms(asked, 100),
        "idle_mb": round(idle_mb), "before_mb": round(before_mb), "after_mb": round(memory_mb(pid)),
    }  # fmt: skip


def quantile_ms(seconds: list[float], percent: float) -> float | None:
    """A percentile in ms."""
    return round(1e3 * float(np.percentile(seconds, percent)), 1) if seconds else None


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="camus-4ch")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--slots", type=int, default=2, help="images at work at a time")
    parser.add_argument("--queue", type=int, default=1, help="images that may wait for a slot")
    parser.add_argument("--times", type=float, default=4.0)
    parser.add_argument("-o", "--output", type=Path)
    settings = parser.parse_args()
    with running(settings) as (process, address, health, start_s):
        found = asyncio.run(measure(address, health, process.pid, settings))
    found = {
        "model": settings.model, "times": settings.times, "slots": settings.slots,
        "queue": settings.queue, "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1), "start_s": round(start_s[0], 2),
        "start_cpu_s": round(start_s[1], 2), **found,
    }  # fmt: skip
    text = json.dumps(found, indent=2)
    print(text)
    if settings.output:
        settings.output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
