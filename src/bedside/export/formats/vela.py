"""Vela, `model_vela.tflite`, for Arm's Ethos-U: LiteRT's file in 8 bits, compiled for the NPU.

The compiler lives in LiteRT's environment. What it makes runs on the chip only; the integers that
it was made from, `model.tflite`, run in LiteRT, which the certificate is of. `vela.txt` is what
the compiler says: where each operation runs, and the memory that it takes.
"""

from functools import partial
from pathlib import Path

from bedside.errors import BackendError, ExportError
from bedside.export.formats.child import Environment, find_environment
from bedside.export.formats.format import Converter, Options
from bedside.export.formats.litert import FILE, PYTHON_VARIABLE, open_tflite, write_tflite
from bedside.export.programs import TorchProgram

ACCELERATOR = "ethos-u55-256"
"""The largest Ethos-U55, with 256 multiply-adds a cycle."""
COMPILED, LOG = "model_vela.tflite", "vela.txt"


def make_converter(options: Options) -> Converter:
    """The converter to LiteRT and Vela in the environment that was named.

    Raises:
        BackendError: If none was named, or Vela is not installed in it.
    """
    environment = find_environment(
        "litert", "litert_child.py", named=options.litert_python, variable=PYTHON_VARIABLE
    )
    versions = environment.versions()
    if "ethos-u-vela" not in versions:
        raise BackendError(f"{environment.python} has no Vela.")
    return Converter(
        convert=partial(_convert, environment=environment),
        open=partial(open_tflite, environment=environment, options=options),
        made_with=versions,
        runs_in=f"ai-edge-litert {versions['ai-edge-litert']}, the integers before Vela",
        hints={"accelerator": ACCELERATOR},
    )


def _convert(program: TorchProgram, folder: Path, *, environment: Environment) -> None:
    write_tflite(program, folder, environment=environment)
    environment.call("vela", folder / FILE, folder, ACCELERATOR)
    if not (folder / COMPILED).is_file():
        raise ExportError(f"vela wrote no {COMPILED}.")
