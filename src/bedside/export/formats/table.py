"""The table of formats: what each can hold, what it needs, and who converts to it.

A new format is a line here and a module with `make_converter(options) -> Converter`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

from bedside.errors import BackendError, UsageError, install_command
from bedside.export.programs import Program
from bedside.runtime import Session


@dataclass(frozen=True)
class Options:
    """How a conversion is done, and its result run.

    Attributes:
        precision: "f32", "bf16" or "int8".
        threads: Threads of the exported network.
        litert_python: Python of the environment that LiteRT lives in; None if not told.
    """

    precision: str = "f32"
    threads: int = 1
    litert_python: Path | None = None


@dataclass(frozen=True)
class Converter:
    """One format, ready to convert and to run what it converted.

    Attributes:
        convert: Writes a program's files into a folder.
        open: Opens the files of such a folder in the format's own runtime; None if it does
            not run on this machine.
        made_with: Version of each package that converts, by name.
        runs_in: Name and version of the runtime.
        not_here: Why it does not run on this machine; empty if it does.
        hints: What a program that runs it must set, beside opening the file.
    """

    convert: Callable[[Any, Path], None]
    open: Callable[[Path], Session] | None
    made_with: dict[str, str]
    runs_in: str
    not_here: str = ""
    hints: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Format:
    """One row of the table.

    Attributes:
        name: What it is called on the command line.
        kind: Whether it is made from an ONNX "graph" or from a "torch" program.
        package: Module that must be importable here; None if it lives elsewhere.
        module: Our module that converts to it.
        elsewhere: Command that makes the environment of one that lives elsewhere.
        spatial_dims: Numbers of spatial axes that it can hold.
        precisions: What it can be exported in.
        flat: Why it holds no three axes; empty if it does.
    """

    name: str
    kind: Literal["graph", "torch"]
    package: str | None
    module: str
    elsewhere: str = ""
    spatial_dims: tuple[int, ...] = (2, 3)
    precisions: tuple[str, ...] = ("f32",)
    flat: str = ""

    @property
    def install(self) -> str:
        """Command that installs it."""
        return self.elsewhere or install_command(str(self.package))

    def check(self, *, spatial_dims: int, precision: str) -> None:
        """Make sure that a network can become this format here.

        Raises:
            UsageError: If it cannot hold the axes or the precision.
            BackendError: If its converter is not installed; the error says how to install it.
        """
        if spatial_dims not in self.spatial_dims:
            raise UsageError(
                f"{self.name} cannot hold a network of {spatial_dims} axes: {self.flat}. "
                "Export it to "
                "openvino, onnx or torch."
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
        """Load the module that converts to it."""
        made: Converter = import_module(self.module).make_converter(options)
        return made


FORMATS = (
    Format(
        name="openvino",
        kind="graph",
        package="openvino",
        module="bedside.export.formats.openvino",
        precisions=("f32", "bf16", "int8"),
    ),
    Format(
        name="onnx",
        kind="graph",
        package="onnxruntime",
        module="bedside.export.formats.onnx",
        precisions=("f32", "int8"),
    ),
    Format(
        name="torch",
        kind="torch",
        package="torch",
        module="bedside.export.formats.torch",
        precisions=("f32", "bf16"),
    ),
    Format(
        name="litert",
        kind="torch",
        package=None,
        module="bedside.export.formats.litert",
        elsewhere="python -m venv litert && litert/bin/pip install torch==2.13.0 "
        "litert-torch==0.10.0 ai-edge-litert==2.3.0",
        spatial_dims=(2,),
        flat="its depthwise conv3d is illegal and its conv3d of stride 2 crashes",
    ),
    Format(
        name="executorch",
        kind="torch",
        package="executorch",
        module="bedside.export.formats.executorch",
        spatial_dims=(2,),
        flat="its XNNPACK has no conv3d",
    ),
    Format(
        name="coreml",
        kind="torch",
        package="coremltools",
        module="bedside.export.formats.coreml",
        spatial_dims=(2,),
        flat="it has no upsampling over three axes",
    ),
)


def find_format(name: str) -> Format:
    """Find a format by its name.

    Raises:
        UsageError: If there is none.

    Example:
        >>> find_format("openvino").precisions
        ('f32', 'bf16', 'int8')
    """
    for each in FORMATS:
        if each.name == name:
            return each
    known = ", ".join(each.name for each in FORMATS)
    raise UsageError(f'no format "{name}"; choose one of {known}.')


__all__ = ["FORMATS", "Converter", "Format", "Options", "Program", "find_format"]
