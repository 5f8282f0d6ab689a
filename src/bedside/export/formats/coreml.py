"""Core ML, `model.mlpackage`, for Apple's devices: converted anywhere, run on macOS only."""

import platform
import threading
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from bedside.errors import ExportError, last_line
from bedside.export.formats.format import Converter, Options
from bedside.export.programs import TorchProgram
from bedside.runtime.contract import GraphSession
from bedside.system.quiet import quiet


class CoremlSession(GraphSession):
    """A package in Core ML, which runs one call after another; on macOS only.

    Args:
        model: What coremltools loaded.
        options: Precision and threads.
    """

    backend = "coreml"

    def __init__(self, model: Any, options: Options) -> None:
        taken = model.get_spec().description.input[0].type.multiArrayType
        shape = tuple(int(size) for size in taken.shape)
        # The package does not hold the shape of its output.
        given = model.predict({"image": np.zeros(shape, np.float32)})["logits"].shape
        super().__init__(
            model,
            takes=shape[1:],
            gives=given[1:],
            precision=options.precision,
            threads=options.threads,
        )
        self._lock = threading.Lock()

    def _run(self, network: Any, image: np.ndarray, logits: np.ndarray) -> None:
        with self._lock:
            logits[...] = network.predict({"image": image})["logits"]


def make_converter(options: Options) -> Converter:
    """The converter to Core ML; it runs packages on macOS only."""
    apple = platform.system() == "Darwin"
    return Converter(
        convert=_convert,
        open=partial(_open, options=options) if apple else None,
        made_with={"coremltools": version("coremltools")},
        runs_in=f"Core ML, macOS {platform.mac_ver()[0]}" if apple else "",
        not_here="" if apple else f"Core ML runs on macOS, this is {platform.system()}",
    )


def _convert(program: TorchProgram, folder: Path) -> None:
    try:
        with quiet():
            import coremltools as ct

            package = ct.convert(
                program.exported.run_decompositions({}),
                convert_to="mlprogram",
                inputs=[ct.TensorType(name="image", shape=tuple(program.example.shape))],
                outputs=[ct.TensorType(name="logits")],
                compute_precision=ct.precision.FLOAT32,
                skip_model_load=True,
            )
            package.save(str(folder / "model.mlpackage"))
    except Exception as error:  # its errors share no base
        said = last_line(error, otherwise=repr(error))
        raise ExportError(f"coremltools cannot convert the network: {said}") from error


def _open(folder: Path, *, options: Options) -> CoremlSession:
    import coremltools as ct

    return CoremlSession(ct.models.MLModel(str(folder / "model.mlpackage")), options)
