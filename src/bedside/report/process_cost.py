"""Cost of this process so far: time since its start, and memory."""

import os
import time
from pathlib import Path

from bedside.system.process_memory import peak_bytes

_IMPORTED = time.perf_counter()
# A process that has run for longer before bedside was imported is not a cold start of ours.
_LONGEST_START_S = 30.0


def startup_ms() -> float:
    """Time since the process started; since bedside was imported if that is unknown."""
    since_import = time.perf_counter() - _IMPORTED
    try:
        # Field 22 of proc(5); the second field may hold spaces, and ends with the last ")".
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        started = int(fields[19]) / os.sysconf("SC_CLK_TCK")
        since_start = time.clock_gettime(time.CLOCK_BOOTTIME) - started
    except (OSError, ValueError, IndexError, AttributeError):
        return 1e3 * since_import
    before_import = since_start - since_import
    return 1e3 * (since_start if 0 <= before_import <= _LONGEST_START_S else since_import)


def peak_memory_mb() -> float | None:
    """Peak resident memory so far, in MiB; None if unknown."""
    found = peak_bytes()
    return None if found is None else round(found / 2**20, 1)
