"""ExecuTorch with XNNPACK, `model.pte`, for phones and small boards."""

import threading
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bedside.errors import ExportError, last_line
from bedside.export.formats.format import Converter, Options
from bedside.export.programs import TorchProgram
from bedside.runtime.contract import GraphSession
from bedside.system.quiet import quiet


class ExecutorchSession(GraphSession):
    """A program in ExecuTorch's runtime; calls are serialized.

    Args:
        method: The loaded method.
        options: Precision and threads.
    """

    backend = "executorch"

    def __init__(self, method: Any, options: Options) -> None:
        meta = method.metadata
        super().__init__(
            method,
            takes=tuple(meta.input_tensor_meta(0).sizes())[1:],
            gives=tuple(meta.output_tensor_meta(0).sizes())[1:],
            precision=options.precision,
            threads=options.threads,
        )
        # A method has one set of memory for all its values.
        self._lock = threading.Lock()

    def _run(self, network: Any, image: np.ndarray, logits: np.ndarray) -> None:
        with self._lock:
            logits[...] = network.execute([torch.from_numpy(image)])[0].numpy()


def make_converter(options: Options) -> Converter:
    """The converter to ExecuTorch with XNNPACK."""
    return Converter(
        convert=_convert,
        open=partial(_open, options=options),
        made_with={"executorch": version("executorch"), "torch": version("torch")},
        runs_in=f"executorch {version('executorch')}",
    )


def _convert(program: TorchProgram, folder: Path) -> None:
    try:
        with quiet():
            from executorch.backends.xnnpack.partition.xnnpack_partitioner import (
                XnnpackPartitioner,
            )
            from executorch.exir import to_edge_transform_and_lower

            edge = to_edge_transform_and_lower(program.exported, partitioner=[XnnpackPartitioner()])
            content = edge.to_executorch().buffer
    except Exception as error:  # its errors share no base
        said = last_line(error, otherwise=repr(error))
        raise ExportError(f"executorch cannot convert the network: {said}") from error
    (folder / "model.pte").write_bytes(content)


def _open(folder: Path, *, options: Options) -> ExecutorchSession:
    with quiet():
        from executorch.runtime import Runtime

        program = Runtime.get().load_program(folder / "model.pte")
        return ExecutorchSession(program.load_method("forward"), options)
