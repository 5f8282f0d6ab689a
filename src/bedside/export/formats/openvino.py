"""OpenVINO IR: `model.xml`, the operations, and `model.bin`, the weights."""

from functools import partial
from importlib.metadata import version
from pathlib import Path

import openvino as ov

from bedside.export.formats.format import Converter, Options
from bedside.export.programs import GraphProgram
from bedside.runtime.openvino import OpenvinoSession, open_model


def make_converter(options: Options) -> Converter:
    """The converter to OpenVINO IR.

    Files in bf16 are those of f32: OpenVINO rounds at run time, by a hint.
    """
    hints = {"INFERENCE_PRECISION_HINT": "bf16"} if options.precision == "bf16" else {}
    return Converter(
        convert=_convert,
        open=partial(_open, options=options),
        made_with={"openvino": version("openvino")},
        runs_in=f"openvino {version('openvino')}",
        backend="openvino",
        hints=hints,
    )


def _convert(program: GraphProgram, folder: Path) -> None:
    # Weights keep the types that the graph stores them in, so nothing is rounded twice.
    model = ov.Core().read_model(program.content)
    ov.save_model(model, folder / "model.xml", compress_to_fp16=False)


def _open(folder: Path, *, options: Options) -> OpenvinoSession:
    model = ov.Core().read_model(folder / "model.xml")
    return open_model(model, precision=options.precision, threads=options.threads)
