"""What this process has cost so far: time since it started, and memory."""

import os
import re
import sys
import time
from pathlib import Path

_IMPORTED = time.perf_counter()
# A process that has run for longer before bedside was imported is not a cold start of ours.
_LONGEST_START_S = 30.0


def startup_ms() -> float:
    """Tell the time since the process began; where nobody knows, since bedside was imported."""
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
    """Tell the largest resident memory so far, in MiB; None where the system does not say.

    Linux tells it per program in VmHWM. Its `ru_maxrss` begins with the size of whoever
    started the process, and is asked only where there is nothing better.
    """
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        found = None
    if found:
        return round(int(found[1]) / 1024, 1)
    try:
        import resource
    except ImportError:
        return None
    unit = 1024**2 if sys.platform == "darwin" else 1024
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit, 1)
