"""ExecuTorch, `model.pte`: for phones and small boards, its operations done by XNNPACK."""

import threading
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bedside.errors import ExportError, last_line
from bedside.export.formats.table import Converter, Options
from bedside.export.programs import TorchProgram
from bedside.runtime.checks import check_logits, check_tensor, make_backend_error
from bedside.system.quiet import quiet


class ExecutorchSession:
    """A program in ExecuTorch's own runtime, which runs one call after another.

    Args:
        method: The loaded method.
        options: Precision and threads.
    """

    backend = "executorch"

    def __init__(self, method: Any, options: Options) -> None:
        self._method = method
        self.precision, self.threads = options.precision, options.threads
        self._shape = tuple(method.metadata.input_tensor_meta(0).sizes())
        # A method has one set of memory for all its values.
        self._lock = threading.Lock()

    def predict(self, tensor: np.ndarray) -> np.ndarray:
        """Turn (B, C, H, W) float32 into (B, K, h, w) float32 logits that the caller owns."""
        tensor = check_tensor(tensor, self._shape[1:])
        with self._lock:
            rows = [self._run(row[None]) for row in tensor]
        return check_logits(np.concatenate(rows))

    def _run(self, image: np.ndarray) -> np.ndarray:
        try:
            logits = self._method.execute([torch.from_numpy(image)])[0]
        except RuntimeError as error:
            raise make_backend_error(self.backend, error) from error
        # The output's memory is the method's own.
        return np.array(logits.numpy())


def make_converter(options: Options) -> Converter:
    """Return what lowers to XNNPACK and runs it in ExecuTorch's runtime."""
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
