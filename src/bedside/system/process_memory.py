"""Resident memory of this process: current, peak, and returning freed memory."""

import contextlib
import ctypes
import re
import sys
from pathlib import Path


def resident_bytes() -> int:
    """Resident memory of this process in bytes; 0 where it is not known."""
    return _read_status("VmRSS") or 0


def peak_bytes() -> int | None:
    """Peak resident memory in bytes; None where it is not known.

    `ru_maxrss` of Linux starts with the size of the parent process, so it is used only where
    /proc is missing.
    """
    found = _read_status("VmHWM")
    if found is not None:
        return found
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def trim_heap() -> None:
    """Return freed memory to the system.

    The C library of Linux keeps it, for each thread apart, so that what one stage has used is
    not there for the next. Elsewhere nothing is done.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)


def _read_status(name: str) -> int | None:
    """Return a value of /proc/self/status in bytes."""
    try:
        found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        return None
    return 1024 * int(found[1]) if found else None
