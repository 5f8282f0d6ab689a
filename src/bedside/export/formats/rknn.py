"""RKNN, `model.rknn`, for Rockchip's NPUs; its toolkit lives in an environment of its own.

The toolkit's simulator runs the graph as it was built, in f16; the file itself runs on the chip
only. `layers.json` holds what the toolkit says of each layer: where it runs, and its cycles.
"""

from functools import partial
from pathlib import Path

from bedside.errors import UsageError
from bedside.export.formats.child import ChildSession, Environment, find_environment
from bedside.export.formats.format import Converter, Options
from bedside.export.programs import GraphProgram
from bedside.graphs.constant_folding import widen_weights

PYTHON_VARIABLE = "BEDSIDE_RKNN_PYTHON"
FILE, SOURCE, LAYERS = "model.rknn", "model.onnx", "layers.json"


def make_converter(options: Options) -> Converter:
    """The converter to RKNN in the environment that was named.

    Raises:
        BackendError: If none was named, or the toolkit is not installed in it.
        UsageError: If the export is for no chip: a file of RKNN is of one.
    """
    if options.chip is None:
        raise UsageError("a file of RKNN is for one chip; name it, as in --chip rk3588.")
    environment = find_environment(
        "rknn", "rknn_child.py", named=options.rknn_python, variable=PYTHON_VARIABLE
    )
    versions = environment.versions()
    return Converter(
        convert=partial(_convert, environment=environment, chip=options.chip),
        open=partial(_open, environment=environment, options=options),
        made_with=versions,
        runs_in=f"the simulator of rknn-toolkit2 {versions['rknn-toolkit2']}",
    )


def _convert(program: GraphProgram, folder: Path, *, environment: Environment, chip: str) -> None:
    # The simulator runs what was built from the graph, so that the graph stays beside the file.
    source = folder / SOURCE
    source.write_bytes(widen_weights(program.content))
    environment.call("convert", source, folder / FILE, chip, folder / LAYERS)


def _open(folder: Path, *, environment: Environment, options: Options) -> ChildSession:
    return ChildSession(environment, ["run", folder / SOURCE, str(options.chip)], options)
