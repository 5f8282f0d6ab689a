"""A format that a bundle can be exported to, and its converter.

Light on purpose: the command line reads the table of formats, and imports no torch for `--help`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from bedside.errors import BackendError, UsageError, install_command

if TYPE_CHECKING:
    from bedside.runtime import Session


@dataclass(frozen=True)
class Options:
    """Settings of a conversion, and of the session that runs its result.

    Attributes:
        precision: "f32", "bf16", "f16" or "int8".
        threads: Threads of the exported network.
        litert_python: Python of the environment that LiteRT is installed in; None if not given.
        rknn_python: The same of RKNN-Toolkit2.
        chip: Name of the chip that it is for; None for no chip.
    """

    precision: str = "f32"
    threads: int = 1
    litert_python: Path | None = None
    rknn_python: Path | None = None
    chip: str | None = None


@dataclass(frozen=True)
class Converter:
    """Functions that convert to one format and open its files.

    Attributes:
        convert: Writes a program's files into a folder.
        open: Opens the files of such a folder in the format's own runtime; None if it does
            not run on this machine.
        made_with: Version of each package that takes part in the conversion, by name.
        runs_in: Name and version of the runtime.
        backend: Name of the backend whose kernels it runs with; empty if its runtime is none.
        not_here: Why it does not run on this machine; empty if it does.
        hints: Settings of the runtime that the files need.
    """

    convert: Callable[[Any, Path], None]
    open: "Callable[[Path], Session] | None"
    made_with: dict[str, str]
    runs_in: str
    backend: str = ""
    not_here: str = ""
    hints: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Format:
    """One row of the table.

    Attributes:
        name: What it is called on the command line.
        kind: Whether it is made from an ONNX "graph" or from a "torch" program.
        package: Module that must be importable here; None if it needs an environment of its own.
        maker: "module:function" of ours that makes its `Converter` from `Options`.
        elsewhere: Command that makes that environment.
        spatial_dims: Numbers of spatial axes that it supports.
        precisions: What it can be exported in.
        flat: Why it does not support three axes; empty if it does.
    """

    name: str
    kind: Literal["graph", "torch"]
    package: str | None
    maker: str
    elsewhere: str = ""
    spatial_dims: tuple[int, ...] = (2, 3)
    precisions: tuple[str, ...] = ("f32",)
    flat: str = ""

    @property
    def install(self) -> str:
        """Command that installs it."""
        return self.elsewhere or install_command(str(self.package))

    def check(self, *, spatial_dims: int, precision: str) -> None:
        """Raise unless a network can be exported to this format here.

        Raises:
            UsageError: If the format does not support the number of axes or the precision.
            BackendError: If its converter is not installed; the error says how to install it.
        """
        if spatial_dims not in self.spatial_dims:
            raise UsageError(
                f"{self.name} cannot hold a network of {spatial_dims} axes: {self.flat}. "
                "Export it to openvino, onnx or torch."
            )
        if precision not in self.precisions:
            raise UsageError(
                f'{self.name} is not exported in "{precision}"; choose one of '
                f"{', '.join(self.precisions)}."
            )
        if self.package is not None and find_spec(self.package) is None:
            raise BackendError(
                f"the converter to {self.name} is not installed. Install it with: {self.install}."
            )

    def make_converter(self, options: Options) -> Converter:
        """The converter to this format, loaded on demand.

        Raises:
            BackendError: If it is not installed in the environment that `options` name.
        """
        module, _, function = self.maker.partition(":")
        try:
            made: Converter = getattr(import_module(module), function)(options)
        except BackendError as error:
            raise BackendError(f"{error} Install it with: {self.install}.") from error
        return made
