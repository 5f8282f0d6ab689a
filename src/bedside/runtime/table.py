"""The ordered table of runtimes: what each computes, how it is installed, which file runs it.

The first installed one is the default. A new runtime is a row here, and a module with
`open_graph(graph, *, precision, threads) -> Session` and `native_precisions()`. Accelerators have a
table of their own: they run where they are named, and nowhere else.
"""

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol, cast

from bedside.errors import BackendError, UsageError, install_command

if TYPE_CHECKING:
    from bedside.runtime.contract import Session


class _Module(Protocol):
    """What a runtime's module offers."""

    def open_graph(self, graph: bytes, *, precision: str, threads: int) -> "Session": ...

    def native_precisions(self) -> tuple[str, ...]: ...


class _DeviceModule(Protocol):
    """What the module of an accelerator offers."""

    def open_on(
        self, graph: bytes, *, backend: str, device: str, precision: str, threads: int
    ) -> "Session": ...


@dataclass(frozen=True)
class Backend:
    """One row of the table.

    Attributes:
        name: What it is called on the command line.
        package: Module that must be importable; the package has the same name.
        opener: Our module that runs it.
        precisions: Precisions that it computes in, natively or emulated, f32 first. "int8" runs the
            quantized graph, each other one the f32 graph.
        faster_than_f32: Precisions worth choosing in it, fastest first, where the
            processor has them. ONNX Runtime took 2 to 3 times as long in int8 as in f32
            for a graph that OpenVINO runs 1.5 times faster in int8.
        int8_saturates: Whether its int8 is wrong on a processor without instructions that sum
            products of bytes.
        device: Accelerator that it runs on, by its runtime's name; "" for the CPU.
        install: Package to install, where it is not called like the module.
    """

    name: str
    package: str
    opener: str
    precisions: tuple[str, ...]
    faster_than_f32: tuple[str, ...] = ()
    int8_saturates: bool = True
    device: str = ""
    install: str = ""

    @property
    def installed(self) -> bool:
        """Whether its package is installed; nothing is imported."""
        return find_spec(self.package) is not None

    def load(self) -> _Module:
        """Import the module that runs it."""
        return cast(_Module, import_module(self.opener))

    def native_precisions(self) -> tuple[str, ...]:
        """Return the precisions that it computes natively here; of an accelerator, all."""
        return self.precisions if self.device else self.load().native_precisions()

    def open_graph(self, graph: bytes, *, precision: str, threads: int) -> "Session":
        """Open a graph on its processor or accelerator.

        Args:
            graph: Serialized ONNX.
            precision: One of its precisions.
            threads: Threads for one call.

        Raises:
            BackendError: If its accelerator is not there, or it cannot run the graph.
        """
        if not self.device:
            return self.load().open_graph(graph, precision=precision, threads=threads)
        module = cast(_DeviceModule, import_module(self.opener))
        return module.open_on(
            graph, backend=self.name, device=self.device, precision=precision, threads=threads
        )


BACKENDS = (
    Backend(
        name="openvino",
        package="openvino",
        opener="bedside.runtime.openvino",
        precisions=("f32", "bf16", "int8"),
        faster_than_f32=("bf16", "int8"),
    ),
    Backend(
        name="onnxruntime",
        package="onnxruntime",
        opener="bedside.runtime.onnx",
        precisions=("f32", "int8"),
    ),
)

ACCELERATORS = (
    Backend(
        name="openvino-gpu",
        package="openvino",
        opener="bedside.runtime.openvino_device",
        precisions=("f32", "f16", "int8"),
        faster_than_f32=("f16", "int8"),
        int8_saturates=False,
        device="GPU",
    ),
    Backend(
        name="openvino-npu",
        package="openvino",
        opener="bedside.runtime.openvino_device",
        precisions=("f16", "int8"),
        faster_than_f32=("f16", "int8"),
        int8_saturates=False,
        device="NPU",
    ),
    Backend(
        name="onnxruntime-cuda",
        package="onnxruntime",
        opener="bedside.runtime.onnx_gpu",
        precisions=("f32",),
        int8_saturates=False,
        device="CUDAExecutionProvider",
        install="onnxruntime-gpu",
    ),
    Backend(
        name="onnxruntime-tensorrt",
        package="onnxruntime",
        opener="bedside.runtime.onnx_gpu",
        precisions=("f32", "f16"),
        faster_than_f32=("f16",),
        int8_saturates=False,
        device="TensorrtExecutionProvider",
        install="onnxruntime-gpu",
    ),
)
"""Rows that are never chosen, only named: none of them was run yet."""


def list_installed() -> tuple[Backend, ...]:
    """Return the rows of the runtimes that are installed, in order of preference."""
    return tuple(backend for backend in BACKENDS if backend.installed)


def installed_backends() -> tuple[str, ...]:
    """Return the names of the runtimes that are installed, in order of preference."""
    return tuple(backend.name for backend in list_installed())


def list_precisions() -> tuple[str, ...]:
    """Return every precision that a runtime of the table computes in."""
    rows = (*BACKENDS, *ACCELERATORS)
    return tuple(dict.fromkeys(name for backend in rows for name in backend.precisions))


def graph_of(precision: str) -> str:
    """Return the name of the graph that a precision runs: of bf16 the f32 graph, rounded."""
    return "int8" if precision == "int8" else "f32"


def find_backend(name: str) -> Backend:
    """Return the row of a runtime that is installed.

    Args:
        name: Its name in the table, or "auto" for the first one that is here.

    Raises:
        UsageError: If no runtime has that name.
        BackendError: If it is not installed; the error says how to install it.
    """
    rows = {backend.name: backend for backend in (*BACKENDS, *ACCELERATORS)}
    if name not in ("auto", *rows):
        raise UsageError(f'no backend "{name}"; choose one of auto, {", ".join(rows)}.')
    here = installed_backends()
    if name == "auto":
        name = next(iter((*here, *rows)))
    row = rows[name]
    if not row.installed:
        raise BackendError(
            f'backend "{name}" is not installed. Install it with: '
            f"{install_command(row.install or row.package)}. "
            f"Installed here: {', '.join(here) or 'none'}."
        )
    return row


def open_graph(
    graph: bytes, *, backend: str = "auto", precision: str = "f32", threads: int = 1
) -> "Session":
    """Open a graph that is trusted already; `open_session` opens one from a bundle.

    Args:
        graph: Serialized ONNX with one input and one output.
        backend: Name in the table, or "auto".
        precision: How to compute; for an int8 graph, "int8".
        threads: Threads for one call.

    Raises:
        UsageError: If no backend has that name.
        BackendError: If it is not installed, or has no such precision, or cannot run the graph.
    """
    chosen = find_backend(backend)
    if precision not in chosen.precisions:
        raise BackendError(
            f'{chosen.name} cannot compute in "{precision}"; '
            f"choose one of {', '.join(chosen.precisions)}."
        )
    return chosen.open_graph(graph, precision=precision, threads=threads)
