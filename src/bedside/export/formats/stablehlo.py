"""StableHLO, `model.stablehlo`, for XLA's compilers, such as those of TPUs; made by JAX.

`model.stablehlo` is portable bytecode. `model.jax` is the same with its calling convention, which
`jax.export.deserialize` opens. `tiles.json` says how well its products fill a matrix unit.
"""

import json
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import numpy as np
import onnx
from jax import export as jax_export

from bedside.export.formats.format import Converter, Options
from bedside.export.jax_graph import make_function
from bedside.export.programs import GraphProgram
from bedside.export.tiles import report_tiles
from bedside.runtime.contract import GraphSession

PLATFORM = "tpu"
"""What the program is lowered for. It runs on CPUs too: nothing in it is a TPU's own."""
FILE, PROGRAM, TILES = "model.stablehlo", "model.jax", "tiles.json"


class StablehloSession(GraphSession):
    """A program of JAX, compiled once for its one shape, on this machine's CPU.

    Args:
        program: What `jax.export.deserialize` loaded.
        options: Precision and threads; XLA uses threads of its own.
    """

    backend = "jax"

    def __init__(self, program: Any, options: Options) -> None:
        self._cpu = jax.devices("cpu")[0]
        taken, given = program.in_avals[0].shape, program.out_avals[0].shape
        with jax.default_device(self._cpu):
            compiled = jax.jit(program.call).lower(program.in_avals[0]).compile()
        super().__init__(
            compiled,
            takes=taken[1:],
            gives=given[1:],
            precision=options.precision,
            threads=options.threads,
        )

    def _run(self, network: Any, image: np.ndarray, logits: np.ndarray) -> None:
        logits[...] = network(jax.device_put(image, self._cpu))


def make_converter(options: Options) -> Converter:
    """The converter to StableHLO, run by JAX on the CPU."""
    return Converter(
        convert=partial(_convert, options=options),
        open=partial(_open, options=options),
        made_with={"jax": version("jax"), "onnx": version("onnx")},
        runs_in=f"jax {version('jax')} on the CPU",
    )


def _convert(program: GraphProgram, folder: Path, *, options: Options) -> None:
    graph = onnx.load_from_string(program.content).graph
    shape = tuple(each.dim_value for each in graph.input[0].type.tensor_type.shape.dim)
    function = make_function(program.content, precision=options.precision)
    taken = jax.ShapeDtypeStruct(shape, np.float32)  # type: ignore[no-untyped-call]
    anywhere = [jax_export.DisabledSafetyCheck.platform()]
    exported = jax_export.export(jax.jit(function), platforms=[PLATFORM], disabled_checks=anywhere)(
        taken
    )
    (folder / FILE).write_bytes(exported.mlir_module_serialized)
    (folder / PROGRAM).write_bytes(exported.serialize())
    report = report_tiles(function, shape)
    (folder / TILES).write_text(json.dumps(report.to_mapping(), indent=1) + "\n", "utf-8")


def _open(folder: Path, *, options: Options) -> StablehloSession:
    program = jax_export.deserialize(bytearray((folder / PROGRAM).read_bytes()))
    return StablehloSession(program, options)
