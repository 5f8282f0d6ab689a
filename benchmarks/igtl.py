"""Latency of frames over OpenIGTLink on loopback, with bedside's server beside pyigtl's.

One frame of 640 x 480 at a time, 30 a second, is sent to the same client by either server in turn;
its latency is from the call that sends it to the call that hands it over decoded. Then, how long a
client needs to connect again. Writes igtl.md.
"""

import argparse
import os
import queue
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyigtl

from bedside.igtl import Fault, IgtlClient, IgtlServer, Image, Message
from bedside.runtime.machine import describe_processor, package_version
from bedside.volume import Geometry

HERE = Path(__file__).parent
Sender = Callable[[np.ndarray, str], None]
SHAPE, FRAMES_PER_S = (480, 640), 30.0


class Way:
    """One server and what its client has received."""

    def __init__(self, name: str, port: int) -> None:
        self.name, self.latencies_ms = name, []
        self._received: queue.SimpleQueue = queue.SimpleQueue()
        self.client = IgtlClient(port, on_item=self._take)

    def _take(self, item: Message | Fault) -> None:
        self._received.put((time.perf_counter(), item))

    def measure(
        self, send: Callable[[np.ndarray, str], None], frame: np.ndarray, number: int
    ) -> None:
        """Send a frame and wait for it."""
        begin = time.perf_counter()
        send(frame, f"frame {number}")
        at, item = self._received.get(timeout=20)
        if item.device != f"frame {number}" or not np.array_equal(item.content.pixels[0, 0], frame):
            raise SystemExit(f"{self.name} has sent another frame")
        self.latencies_ms.append((at - begin) * 1e3)


def free_port() -> int:
    """A port that nothing listens at."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def main(frames: int) -> None:
    """Measure and write the table."""
    random = np.random.default_rng(0)
    films = random.integers(0, 256, (8, *SHAPE), np.uint8)
    geometry = Geometry((1, *SHAPE), np.eye(4), space="LPS")
    ours, theirs = IgtlServer(0), pyigtl.OpenIGTLinkServer(free_port(), local_server=True)

    def send_ours(frame: np.ndarray, name: str) -> None:
        ours.send(Message(Image(frame[None, None], geometry), name, time.time()))

    def send_theirs(frame: np.ndarray, name: str) -> None:
        message = pyigtl.ImageMessage(frame[None], np.eye(4), device_name=name)
        theirs.send_message(message, wait=False)

    ways = [(Way("bedside", ours.port), send_ours), (Way("pyigtl", theirs.port), send_theirs)]
    ours.wait_client(20)
    while not theirs.is_connected():
        time.sleep(0.01)
    for number in range(-20, frames):
        for way, send in ways:
            # Not in step with a server that looks at its queue every 10 ms.
            time.sleep(0.5 / FRAMES_PER_S + random.uniform(0, 0.01) - 0.005)
            way.measure(send, films[number % len(films)], number)
    for way, _ in ways:
        del way.latencies_ms[:20]
        way.client.close()
    ours.close()
    theirs.stop()
    write_table([way for way, _ in ways], frames, measure_reconnects(30))


def measure_reconnects(repeats: int) -> list[float]:
    """Time in ms from the end of a server, another of which listens at once, to a connection."""
    found, server = [], IgtlServer(0)
    with IgtlClient(server.port) as client:
        for number in range(1, repeats + 1):
            while client.connects < number or not client.connected:
                time.sleep(0.001)
            begin = time.perf_counter()
            server.close()
            server = IgtlServer(server.port)
            while client.connects == number:
                time.sleep(0.001)
            found.append((time.perf_counter() - begin) * 1e3)
        server.close()
    return found


def write_table(ways: list[Way], frames: int, reconnects_ms: list[float]) -> None:
    """Write igtl.md."""
    machine = f"{describe_processor()}; pyigtl {package_version('pyigtl')}"
    lines = [
        "# Latency over OpenIGTLink", "",
        f"Written by `benchmarks/igtl.py` on {machine}, numpy {package_version('numpy')}.", "",
        f"{frames} frames of 640 x 480, 8 bits, by each server in turn over loopback to bedside's",
        "client; from the call that sends a frame to its arrival, decoded, its checksum verified.",
        f"Load of the machine, mean of a minute: {os.getloadavg()[0]:.1f}.", "",
        "| server | p50, ms | p95, ms | p99, ms | max, ms |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for way in ways:
        values = [*np.percentile(way.latencies_ms, [50, 95, 99]), max(way.latencies_ms)]
        lines.append(f"| {way.name} | " + " | ".join(f"{value:.1f}" for value in values) + " |")
    lines += [
        "", "A client whose server ended, and was started again at once, was connected again after "
        f"{np.median(reconnects_ms):.0f} ms (median of {len(reconnects_ms)}), at most "
        f"{max(reconnects_ms):.0f} ms.",
    ]  # fmt: skip
    (HERE / "igtl.md").write_text("\n".join([*lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=450)
    main(parser.parse_args().frames)
    sys.stdout.write((HERE / "igtl.md").read_text(encoding="utf-8"))
