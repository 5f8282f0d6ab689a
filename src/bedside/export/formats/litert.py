"""LiteRT, formerly TensorFlow Lite, `model.tflite`, in a Python environment of its own.

Its converter cannot be installed beside torch's other tools, so another Python converts and runs,
with the script `litert_child.py`.
"""

import tempfile
from functools import partial
from pathlib import Path

import numpy as np

from bedside.export.formats.child import ChildSession, Environment, find_environment
from bedside.export.formats.format import Converter, Options
from bedside.export.formats.torch import save_program
from bedside.export.programs import TorchProgram

PYTHON_VARIABLE = "BEDSIDE_LITERT_PYTHON"
FILE = "model.tflite"


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
        convert=partial(write_tflite, environment=environment),
        open=partial(open_tflite, environment=environment, options=options),
        made_with=versions,
        runs_in=f"ai-edge-litert {versions['ai-edge-litert']}",
    )


def write_tflite(program: TorchProgram, folder: Path, *, environment: Environment) -> None:
    """Convert a program to `model.tflite`; to integers, also at its ends, if it is calibrated."""
    target = folder / FILE
    with tempfile.TemporaryDirectory() as scratch:
        source, plain = Path(scratch) / "program.pt2", Path(scratch) / "plain.tflite"
        save_program(program, source)
        if not program.calibration:
            environment.call("convert", source, target)
            return
        images = Path(scratch) / "images.npy"
        np.save(images, np.concatenate(program.calibration))
        environment.call("convert", source, plain)
        environment.call("quantize", plain, target, images)


def open_tflite(folder: Path, *, environment: Environment, options: Options) -> ChildSession:
    """Open `model.tflite` in LiteRT's interpreter."""
    arguments: list[str | Path] = ["run", folder / FILE, str(options.threads)]
    return ChildSession(environment, arguments, options)
