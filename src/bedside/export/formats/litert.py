"""LiteRT, formerly TensorFlow Lite, `model.tflite`, in a Python environment of its own.

Its converter cannot be installed beside torch's other tools, so another Python converts and runs,
with the script `litert_child.py`.
"""

import tempfile
from functools import partial
from pathlib import Path

from bedside.export.formats.child import ChildSession, Environment, find_environment
from bedside.export.formats.format import Converter, Options
from bedside.export.formats.torch import save_program
from bedside.export.programs import TorchProgram

PYTHON_VARIABLE = "BEDSIDE_LITERT_PYTHON"


def make_converter(options: Options) -> Converter:
    """The converter to LiteRT in the environment that was named.

    Raises:
        BackendError: If none was named, or LiteRT is not installed in it.
    """
    environment = find_environment(
        "litert", "litert_child.py", named=options.litert_python, variable=PYTHON_VARIABLE
    )
    versions = environment.versions()
    return Converter(
        convert=partial(_convert, environment=environment),
        open=partial(_open, environment=environment, options=options),
        made_with=versions,
        runs_in=f"ai-edge-litert {versions['ai-edge-litert']}",
    )


def _convert(program: TorchProgram, folder: Path, *, environment: Environment) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "program.pt2"
        save_program(program, source)
        environment.call("convert", source, folder / "model.tflite")


def _open(folder: Path, *, environment: Environment, options: Options) -> ChildSession:
    arguments: list[str | Path] = ["run", folder / "model.tflite", str(options.threads)]
    return ChildSession(environment, arguments, options)
