"""ONNX, `model.onnx`: opset 20, weights in f32 or quantized, in one file."""

from functools import partial
from importlib.metadata import version
from pathlib import Path

from bedside.export.formats.format import Converter, Options
from bedside.export.programs import GraphProgram
from bedside.graphs.constant_folding import widen_weights
from bedside.runtime import Session, open_graph


def make_converter(options: Options) -> Converter:
    """The converter to plain ONNX, run in ONNX Runtime."""
    return Converter(
        convert=_convert,
        open=partial(_open, options=options),
        made_with={"onnx": version("onnx")},
        runs_in=f"onnxruntime {version('onnxruntime')}",
        backend="onnxruntime",
    )


def _convert(program: GraphProgram, folder: Path) -> None:
    (folder / "model.onnx").write_bytes(widen_weights(program.content))


def _open(folder: Path, *, options: Options) -> Session:
    content = (folder / "model.onnx").read_bytes()
    return open_graph(
        content, backend="onnxruntime", precision=options.precision, threads=options.threads
    )
