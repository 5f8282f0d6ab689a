"""The machine of a measurement: a description, and a key for kept times."""

import contextlib
import functools
import hashlib
import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from bedside.runtime import table

FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8")


def describe_processor() -> str:
    """Return processor, usable cores and relevant instruction sets, in one line."""
    try:
        fields = dict(
            [part.strip() for part in line.split(":", 1)]
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if ":" in line
        )
    except OSError:
        fields = {}
    flags = fields.get("flags", "").split()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    name = fields.get("model name", platform.processor() or platform.machine())
    return (
        f"{name}, {cores} cores; of {', '.join(FLAGS)} it has "
        f"{', '.join(flag for flag in FLAGS if flag in flags) or 'none'}"
    )


def read_load() -> float:
    """Load of the last minute, 0 where it is not known."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def read_waited_s() -> float:
    """Seconds that the threads of this process have waited for a core, 0 where it is not known.

    Linux counts them for every thread, from its beginning; threads that ended are left out.
    """
    waited_ns = 0
    try:
        for thread in os.scandir("/proc/self/task"):
            with contextlib.suppress(OSError, ValueError, IndexError):
                waited_ns += int(Path(thread.path, "schedstat").read_text().split()[1])
    except OSError:
        return 0.0
    return waited_ns / 1e9


def fingerprint(*, packages: tuple[str, ...] | None = None) -> str:
    """Return a key of this machine and its runtimes: times are only used where they were taken.

    Args:
        packages: Whose versions count, by default all runtimes'; one that is not installed
            counts as none.

    Returns:
        16 hexadecimal digits: the same as long as processor, cores, their quota, and versions are.

    Example:
        >>> len(fingerprint()), fingerprint() == fingerprint()
        (16, True)
    """
    parts = [describe_processor(), platform.system(), platform.machine(), _read_quota()]
    if packages is None:
        packages = tuple(backend.package for backend in table.BACKENDS)
    parts += [f"{package} {package_version(package)}" for package in packages]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _read_quota(folder: Path = Path("/sys/fs/cgroup")) -> str:
    """Time on all cores that a container may use, as Linux writes it; empty without a limit."""
    for name in ("cpu.max", "cpu/cpu.cfs_quota_us"):
        with contextlib.suppress(OSError):
            quota = (folder / name).read_text().strip()
            return "" if quota.startswith(("max", "-1")) else quota
    return ""


@functools.cache  # searches all installed packages, and each image's report asks
def package_version(package: str) -> str:
    """Version of an installed package, or "none"."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
