"""Latency of a bundle in a process of its own, interleaved with the source's.

A compression run times graphs in a process that has done much else. Its result is measured again in
a new process, where nothing is warm or shared. Source and result are interleaved, because the speed
of the machine may have changed since the start of the run.
"""

import contextlib
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from bedside.autopilot.latency.timing import Setting, Timed, time_graphs
from bedside.bundle import read_bundle
from bedside.errors import BackendError
from bedside.runtime.table import graph_of
from bedside.system.signals import end_with_parent

_PATIENCE_S = 600


@dataclass(frozen=True)
class LatencyCheck:
    """Latency at the end of a run, and in a new process.

    Attributes:
        result_ms: Time of the result at the end of the run.
        subprocess_ms: The same in a new process.
        reference_ms: Time of the source, interleaved with the result at the end of the run.
        subprocess_reference_ms: The same, interleaved with the result in the new process.
    """

    result_ms: float
    subprocess_ms: float
    reference_ms: float
    subprocess_reference_ms: float

    @property
    def error(self) -> float:
        """Error of the time at the end of the run, as a part of that in a new process.

        Example:
            >>> round(LatencyCheck(2.9, 3.0, 6.0, 6.1).error, 3)
            -0.033
        """
        return self.result_ms / self.subprocess_ms - 1

    @property
    def relative_error(self) -> float:
        """The same of the time over the source's, which a machine that got slower leaves alone.

        Example:
            >>> round(LatencyCheck(1.0, 1.5, 4.0, 6.0).relative_error, 3)
            0.0
        """
        result = self.result_ms / self.reference_ms
        return result / (self.subprocess_ms / self.subprocess_reference_ms) - 1


def time_in_subprocess(
    bundle: Path,
    source: bytes,
    *,
    setting: Setting,
    time_here: Callable[[], tuple[float, float]],
    rounds: int = 12,
    total_s: float = 12.0,
) -> LatencyCheck:
    """Time a bundle and the source's graph in a process that does nothing else.

    That process and this one take turns, so that a machine whose speed changes meanwhile
    changes it for both.

    Args:
        bundle: The bundle.
        source: The source's f32 graph.
        setting: How the bundle runs; the source runs so in f32.
        time_here: Times both in this process: milliseconds of the result and of the source.
        rounds: How often each process has its turn. The mean over them counts: beside a
            changing load a median jumps between two times.
        total_s: Seconds that the new process times for, all rounds together.

    Raises:
        BackendError: If the process fails.
    """
    with tempfile.TemporaryDirectory() as scratch:
        graph = Path(scratch) / "source.onnx"
        graph.write_bytes(source)
        asked = {
            "bundle": str(bundle),
            "source": str(graph),
            "setting": asdict(setting),
            "seconds": total_s / rounds,
        }
        seen = []
        with _Subprocess(asked) as fresh:
            for _ in range(rounds):
                times = fresh.time()
                seen.append((time_here(), (times["bundle"], times["source"])))
    (result, reference), (measured, measured_reference) = np.mean(seen, axis=0).tolist()
    return LatencyCheck(result, measured, reference, measured_reference)


class _Subprocess:
    """A process that times a bundle whenever it is asked to."""

    def __init__(self, asked: Mapping[str, Any]) -> None:
        self._asked = asked

    def __enter__(self) -> Self:
        # A file: an unread pipe would block a process that writes much.
        self._told = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "bedside.autopilot.latency.subprocess_timing"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._told,
            text=True,
        )
        self._patience = threading.Timer(_PATIENCE_S, self._process.kill)
        self._patience.start()
        self._say(json.dumps(self._asked))
        return self

    def time(self) -> dict[str, float]:
        """Time both graphs once.

        Raises:
            BackendError: If it has ended.
        """
        assert self._process.stdout is not None
        self._say("go")
        answer = self._process.stdout.readline()
        if not answer:
            self._process.wait()
            self._told.seek(0)
            bundle, reason = self._asked["bundle"], self._told.read().strip()
            raise BackendError(
                f"timing {bundle} in a new process failed (exit code "
                f"{self._process.returncode}): {reason}"
            )
        times: dict[str, float] = json.loads(answer)
        return times

    def _say(self, line: str) -> None:
        assert self._process.stdin is not None
        # If it has ended, the missing answer is reported.
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()

    def __exit__(self, *_: object) -> None:
        self._patience.cancel()
        self._process.kill()
        self._process.communicate()
        self._told.close()


def _main() -> None:
    """Read what to time, and time it once for every further line."""
    end_with_parent()
    asked = json.loads(sys.stdin.readline())
    bundle, setting = read_bundle(Path(asked["bundle"])), Setting(**asked["setting"])
    shape = (1, bundle.spec.input.channels, *bundle.spec.input.size_px)
    graph = bundle.read_graph(graph_of(setting.precision))
    plain = Setting(setting.backend, "f32", setting.threads)
    graphs = {
        "bundle": Timed(graph, shape, setting),
        "source": Timed(Path(asked["source"]).read_bytes(), shape, plain),
    }
    for _ in sys.stdin:
        sys.stdout.write(json.dumps(time_graphs(graphs, asked["seconds"])) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _main()
