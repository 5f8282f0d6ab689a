"""Resident memory of this process: how much, how much at most, and how it is given back."""

import contextlib
import ctypes
import re
import sys
from pathlib import Path


def resident_bytes() -> int:
    """Tell the resident memory of this process; 0 where the system does not say."""
    return _read_status("VmRSS") or 0


def peak_bytes() -> int | None:
    """Tell the largest resident memory so far; None where the system does not say.

    Linux tells it per program. Its `ru_maxrss` begins with the size of whoever started the
    process, and is asked only where there is nothing better.
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
    """Give memory that has been freed back to the system.

    The C library of Linux keeps it, for each thread apart, so that what one stage has used is
    not there for the next. Elsewhere nothing is done.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)


def _read_status(name: str) -> int | None:
    """Read an amount that Linux tells of this process, in bytes."""
    try:
        found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        return None
    return 1024 * int(found[1]) if found else None
