"""What a measurement ran on, in a line."""

import os
import platform
from pathlib import Path

FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_bf16", "amx_int8")


def describe_processor() -> str:
    """Name the processor, the cores that may be used, and what counts for networks."""
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
    """Read the load of the last minute, 0 where it is not known."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
