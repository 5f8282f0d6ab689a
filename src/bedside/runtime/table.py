"""The ordered table of backends: what each needs, how it is installed, who opens it.

The first installed one is the default. A new backend is a line here and a module with
`open_graph(graph, *, precision, threads) -> Session`.
"""

from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Protocol, cast

import numpy as np

from bedside.errors import BackendError, UsageError


class Session(Protocol):
    """A graph that is ready to run, by any number of threads at once.

    Each call gets the logits of its own tensor, in memory that nothing writes to afterwards.
    What a runtime needs for one call at a time is made for each call, or locked.

    Attributes:
        backend: Name in the table of backends.
        precision: "f32", "bf16" or "int8".
        threads: Threads that one call uses.
    """

    @property
    def backend(self) -> str: ...  # noqa: D102
    @property
    def precision(self) -> str: ...  # noqa: D102
    @property
    def threads(self) -> int: ...  # noqa: D102

    def predict(self, tensor: np.ndarray) -> np.ndarray:
        """Turn (B, C, *S) float32 into (B, K, *s) float32 logits that the caller owns.

        Args:
            tensor: Of any real dtype and memory layout; not changed.

        Raises:
            InputError: If the shape is not the graph's, or a value is no finite number.
        """
        ...


class _Module(Protocol):
    """What a backend's module offers."""

    def open_graph(self, graph: bytes, *, precision: str, threads: int) -> Session: ...

    def native_precisions(self) -> tuple[str, ...]: ...

    @property
    def PRECISIONS(self) -> tuple[str, ...]: ...  # noqa: N802


@dataclass(frozen=True)
class Backend:
    """One row of the table.

    Attributes:
        name: What it is called on the command line.
        package: Module that must be importable.
        install: Command that installs it.
        opener: Our module that runs it.
        faster_than_f32: Precisions worth choosing in it, fastest first, where the
            processor has them. ONNX Runtime took 2 to 3 times as long in int8 as in f32
            for a graph that OpenVINO runs 1.5 times faster in int8.
    """

    name: str
    package: str
    install: str
    opener: str
    faster_than_f32: tuple[str, ...]

    @property
    def installed(self) -> bool:
        """Whether its package is here; nothing is imported to find out."""
        return find_spec(self.package) is not None

    def load(self) -> _Module:
        """Import the module that runs it."""
        return cast(_Module, import_module(self.opener))


BACKENDS = (
    Backend(
        name="openvino",
        package="openvino",
        install="pip install bedside",
        opener="bedside.runtime.openvino",
        faster_than_f32=("bf16", "int8"),
    ),
    Backend(
        name="onnxruntime",
        package="onnxruntime",
        install='pip install "bedside[onnx]"',
        opener="bedside.runtime.onnx",
        faster_than_f32=(),
    ),
)


def installed_backends() -> tuple[str, ...]:
    """Name the backends that are installed, in order of preference."""
    return tuple(backend.name for backend in BACKENDS if backend.installed)


def find_backend(name: str) -> Backend:
    """Find a backend that is installed.

    Args:
        name: Its name in the table, or "auto" for the first one that is here.

    Raises:
        UsageError: If no backend has that name.
        BackendError: If it is not installed; the error says how to install it.
    """
    names = [backend.name for backend in BACKENDS]
    if name not in ("auto", *names):
        raise UsageError(f'no backend "{name}"; choose one of auto, {", ".join(names)}.')
    here = installed_backends()
    if name == "auto":
        name = here[0] if here else names[0]
    backend = BACKENDS[names.index(name)]
    if name not in here:
        raise BackendError(
            f'backend "{name}" is not installed. Install it with: {backend.install}. '
            f"Installed here: {', '.join(here) or 'none'}."
        )
    return backend


def open_graph(
    graph: bytes, *, backend: str = "auto", precision: str = "f32", threads: int = 1
) -> Session:
    """Open a graph that is trusted already; `open_session` opens one from a bundle.

    Args:
        graph: Serialized ONNX with one input and one output.
        backend: Name in the table, or "auto".
        precision: How to compute; for an int8 graph, "int8".
        threads: Threads for one call.

    Raises:
        UsageError: If no backend has that name.
        BackendError: If it is not installed, or cannot compute so, or not run the graph.
    """
    chosen = find_backend(backend)
    module = chosen.load()
    if precision not in module.PRECISIONS:
        raise BackendError(
            f'{chosen.name} cannot compute in "{precision}"; '
            f"choose one of {', '.join(module.PRECISIONS)}."
        )
    return module.open_graph(graph, precision=precision, threads=threads)
