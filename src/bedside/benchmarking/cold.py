"""Cold start: latency of the first mask of a new process, and its memory."""

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Timer

from bedside.errors import BackendError, last_line
from bedside.system.signals import end_with_parent

_RUNS = 5
_DEADLINE_S = 300


@dataclass(frozen=True)
class ColdStart:
    """Cost of a cold start.

    Attributes:
        first_logits_ms: From its start to the first logits, imports and compiling included.
        peak_mb: Most memory that it held, 2**20 bytes each.
    """

    first_logits_ms: float
    peak_mb: float


def measure_cold_start(bundle: Path, *, backend: str, precision: str, threads: int) -> ColdStart:
    """Start a process that opens a bundle and runs its network.

    Raises:
        BackendError: If it ends without logits.
    """
    command = [sys.executable, "-m", __name__, str(bundle), backend, precision, str(threads)]
    try:
        spent, rest = time_first_line(command)
    except BackendError as error:
        raise BackendError(f"{backend} does not start in {precision}: {error}") from None
    return ColdStart(round(1e3 * spent, 1), json.loads(rest)["peak_mb"])


def time_first_line(
    command: Sequence[str], *, deadline_s: float = _DEADLINE_S
) -> tuple[float, str]:
    """Run a program, and time it until its first line.

    Args:
        command: The program and its arguments.
        deadline_s: When it is ended if it is not done.

    Returns:
        Seconds until the first line, and all that it writes after it.

    Raises:
        BackendError: If it fails, writes no line, or is not done in time.

    Example:
        >>> time_first_line([sys.executable, "-c", "print('ready'); print('done')"])[1].strip()
        'done'
    """
    begin = time.perf_counter()
    # Without a buffer here: lines that come at once would stay in it, where `communicate` does
    # not look.
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
    ) as process:
        watch = Timer(deadline_s, process.kill)
        watch.start()
        try:
            first = process.stdout.readline() if process.stdout else b""
            spent = time.perf_counter() - begin
            rest, said = process.communicate()
        finally:
            # Python waits for it at its end, so it must not outlive an interruption.
            watch.cancel()
    if time.perf_counter() - begin >= deadline_s:
        raise BackendError(f"not done in {deadline_s:g} s.")
    if not first.strip() or process.returncode:
        raise BackendError(last_line(said.decode(errors="replace")))
    return spent, rest.decode()


def main(bundle: str, backend: str, precision: str, threads: str) -> None:
    """Open, run once and report it; run some more, and report the memory."""
    import numpy as np

    from bedside.bundle import read_bundle
    from bedside.runtime import open_session

    end_with_parent()
    opened = read_bundle(Path(bundle))
    session = open_session(opened, backend=backend, precision=precision, threads=int(threads))
    tensor = np.zeros((1, opened.spec.input.channels, *opened.spec.input.size_px), np.float32)
    session.predict(tensor)
    sys.stdout.write("logits\n")
    sys.stdout.flush()
    for _ in range(_RUNS):
        session.predict(tensor)
    sys.stdout.write(json.dumps({"peak_mb": round(_peak_bytes() / 2**20, 1)}) + "\n")


def _peak_bytes() -> int:
    """Read the most memory that this process has held.

    What Linux calls ru_maxrss counts the parent's, whose memory a child has before it starts.
    """
    import resource

    status = Path("/proc/self/status")
    if status.is_file():
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        if "VmHWM" in fields:
            return int(fields["VmHWM"].split()[0]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


if __name__ == "__main__":
    main(*sys.argv[1:5])
