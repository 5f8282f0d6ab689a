"""The ways to run a bundle on this machine: a runtime and a precision each."""

import platform
from pathlib import Path

from bedside.bundle import Bundle
from bedside.runtime.table import BACKENDS, installed_backends

Variant = tuple[str, str]
"""Name of a backend, and a precision."""

GRAPH_OF = {"f32": "f32", "bf16": "f32", "int8": "int8"}
"""Graph that a precision computes: bf16 is the f32 graph, rounded as it runs."""

# How /proc/cpuinfo calls instructions that sum products of bytes without saturating.
_INT8_FLAGS = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp"})


def list_variants(bundle: Bundle) -> list[Variant]:
    """List every way to run a bundle in what is installed, as the processor computes itself."""
    return [
        (backend.name, precision)
        for backend in BACKENDS
        if backend.name in installed_backends()
        for precision in backend.load().native_precisions()
        if GRAPH_OF[precision] in bundle.precisions
    ]


def certified_variants(bundle: Bundle, *, backend: str = "auto") -> tuple[Variant, ...]:
    """List the ways that the card vouches for.

    Without instructions that sum products of bytes, int8 can saturate and is left out.

    Args:
        bundle: Its graphs and its card.
        backend: The only one to take, or "auto" for all.
    """
    verdicts = {result.precision: result.passed for result in bundle.card.precisions}
    vouched = {
        "f32": True,
        "bf16": verdicts.get("bf16", False),
        "int8": verdicts.get("int8", False) and has_int8_products(),
    }
    return tuple(
        (name, precision)
        for name, precision in list_variants(bundle)
        if vouched[precision] and backend in ("auto", name)
    )


def has_int8_products(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Tell whether the processor sums products of bytes without saturating.

    Known on Linux, and on Apple's processors, which all do; elsewhere the answer is no.

    Args:
        cpuinfo: Where Linux describes its processors.
    """
    if platform.system() == "Darwin":
        return platform.machine() == "arm64"
    try:
        lines = cpuinfo.read_text(errors="replace").splitlines()
    except OSError:
        return False
    flags = (line.partition(":") for line in lines)
    listed = (value for name, _, value in flags if name.strip().lower() in ("flags", "features"))
    return not _INT8_FLAGS.isdisjoint(next(listed, "").split())
