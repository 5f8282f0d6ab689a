"""The ways to run a bundle on this machine: a runtime and a precision each."""

import platform
from pathlib import Path

from bedside.bundle import Bundle, check_machine_rule
from bedside.errors import UsageError
from bedside.runtime import table
from bedside.runtime.contract import Session
from bedside.runtime.table import (
    find_backend,
    graph_of,
    installed_backends,
    list_installed,
    open_graph,
)

ExecutionMode = tuple[str, str]
"""Name of a backend, and a precision."""

# How /proc/cpuinfo calls instructions that sum products of bytes without saturating.
_INT8_FLAGS = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp"})


def list_modes(bundle: Bundle, *, backend: str = "auto") -> list[ExecutionMode]:
    """Return the ways to run a bundle in installed runtimes, in precisions native to the processor.

    Args:
        bundle: Its graphs.
        backend: The only one to take, an accelerator too, or "auto" for all that run on the
            processor; others are not loaded.
    """
    named = [row for row in table.ACCELERATORS if row.name == backend and row.installed]
    return [
        (each.name, precision)
        for each in (*list_installed(), *named)
        if backend in ("auto", each.name)
        for precision in each.native_precisions()
        if graph_of(precision) in bundle.precisions
    ]


def list_runnable(bundle: Bundle, *, accelerator: str | None = None) -> list[ExecutionMode]:
    """Return the ways to run a bundle in installed runtimes, emulated precisions included.

    f32 of the first backend comes first.

    Args:
        bundle: Its graphs.
        accelerator: A backend to list beside those that run on the processor.

    Raises:
        UsageError: If no backend has that name.
        BackendError: If it is not installed.
    """
    named = () if accelerator is None else (find_backend(accelerator),)
    return [
        (each.name, precision)
        for each in dict.fromkeys((*list_installed(), *named))
        for precision in each.precisions
        if graph_of(precision) in bundle.precisions
    ]


def certified_modes(bundle: Bundle, *, backend: str = "auto") -> tuple[ExecutionMode, ...]:
    """Return the ways that the card certifies, each backend by its own certificate.

    Without instructions that sum products of bytes, int8 can saturate and is left out.

    Args:
        bundle: Its graphs and its card.
        backend: The only one to take, or "auto" for all.
    """
    return tuple(
        (name, precision)
        for name, precision in list_modes(bundle, backend=backend)
        if bundle.card.certifies(name, precision) and computes_right(name, precision)
    )


def default_mode(bundle: Bundle, *, backend: str = "auto") -> ExecutionMode:
    """Return the certified way that is the fastest by the table of backends.

    It is the first backend for which there is a certificate, in the first of its certified
    precisions by the table. A bundle that is certified for nothing that is installed runs in
    f32, the nearest to what it was trained in, with a warning; see `certificate_warnings`.

    Args:
        bundle: Its graphs and its card.
        backend: The only one to take, or "auto" for any that is installed.

    Raises:
        UsageError: If no backend has that name.
        BackendError: If it is not installed.
    """
    first = find_backend(backend)
    certified = certified_modes(bundle, backend=backend)
    if not certified:
        return first.name, first.precisions[0]
    name = certified[0][0]
    own = [precision for other, precision in certified if other == name]
    order = (*find_backend(name).faster_than_f32, "f32")
    return name, next((precision for precision in order if precision in own), own[0])


def find_certified_backend(bundle: Bundle, precision: str, *, backend: str = "auto") -> str:
    """Return the backend for a precision: the first certified one, or else the first.

    Args:
        bundle: Its graphs and its card.
        precision: "f32", "bf16" or "int8".
        backend: The only one to take, or "auto" for any that is installed.

    Raises:
        UsageError: If no backend has that name.
        BackendError: If it is not installed.
    """
    first = find_backend(backend).name
    if backend != "auto":
        return first
    certified = (name for name in installed_backends() if bundle.card.certifies(name, precision))
    return next(certified, first)


def certificate_warnings(bundle: Bundle, backend: str, precision: str) -> tuple[str, ...]:
    """Return warnings if a backend and precision have no certificate.

    An untrained bundle has nothing to certify, and a warning of its own.

    Args:
        bundle: Its card.
        backend: What it runs in.
        precision: How it computes.

    Returns:
        Sentences for a person; none if there is a certificate that holds here.
    """
    card, name = bundle.card, bundle.spec.name
    if card.untrained:
        return ()
    result = card.find_certificate(backend, precision)
    if result is None:
        certified = [f"{r.backend} {r.precision}" for r in card.precisions if r.passed]
        return (
            f"{name} is not certified for {backend} in {precision}: its accuracy was not measured "
            f"there. Certified: {', '.join(certified) or 'nothing'}. "
            "Choose one of these, or measure it with: bedside certify.",
        )
    if not result.passed and result.draws_nothing:
        return (
            f"{name} is not certified for {backend} in {precision}: nothing was drawn in any of "
            f"{result.cases} validation images.",
        )
    if not result.passed:
        return (
            f"{name} is not certified for {backend} in {precision}: there a structure loses "
            f"{result.max_drop:.4f} of its validation Dice, which is more than was allowed.",
        )
    if not computes_right(backend, precision):
        return (
            f"{name} is not certified for {precision} on this processor: without instructions for "
            "sums of products of bytes they can saturate. Choose another precision.",
        )
    return ()


def open_mode(bundle: Bundle, mode: ExecutionMode, *, threads: int) -> Session:
    """Open a bundle in one backend and precision, whatever its card says of them.

    Raises:
        UsageError: If the bundle has no such graph.
        BackendError: If the backend is not installed, or cannot compute so here.
        SignatureError: If this machine runs signed bundles only, and this is none.
    """
    check_machine_rule(bundle)
    backend, precision = mode
    if graph_of(precision) not in bundle.precisions:
        raise UsageError(
            f'{bundle.path} has no graph in "{precision}"; '
            f"it has {', '.join(bundle.precisions)}. Leave the choice to auto."
        )
    graph = bundle.read_graph(graph_of(precision))
    return open_graph(graph, backend=backend, precision=precision, threads=threads)


def computes_right(backend: str, precision: str) -> bool:
    """Whether sums of a precision do not saturate in a backend on this processor."""
    saturates = any(row.int8_saturates for row in table.BACKENDS if row.name == backend)
    return precision != "int8" or not saturates or has_int8_products()


def has_int8_products(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Whether the processor sums products of bytes without saturating.

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
