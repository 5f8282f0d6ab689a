"""A program of torch.export, `model.pt2`: runs in torch alone, without this package."""

from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bedside.export.formats.table import Converter, Options
from bedside.export.programs import TorchProgram
from bedside.runtime.checks import check_logits, check_tensor
from bedside.system.quiet import quiet


class TorchSession:
    """An exported program in torch.

    Args:
        module: What the program loads as.
        shape: (C, *S) of its input.
        options: Precision and threads.
    """

    backend = "torch"

    def __init__(self, module: Any, *, shape: tuple[int, ...], options: Options) -> None:
        self._module, self._shape = module, shape
        self.precision, self.threads = options.precision, options.threads

    def predict(self, tensor: np.ndarray) -> np.ndarray:
        """Turn (B, C, *S) float32 into (B, K, *s) float32 logits that the caller owns."""
        tensor = check_tensor(tensor, self._shape)
        with torch.inference_mode():
            rows = [self._module(torch.from_numpy(row[None])).numpy() for row in tensor]
        return check_logits(np.concatenate(rows))


def make_converter(options: Options) -> Converter:
    """Return what saves torch programs and runs them in torch."""
    return Converter(
        convert=_convert,
        open=partial(_open, options=options),
        made_with={"torch": version("torch")},
        runs_in=f"torch {version('torch')}",
    )


def save_program(program: TorchProgram, path: Path) -> None:
    """Write a program as torch writes it."""
    with quiet():
        torch.export.save(program.exported, path)


def _convert(program: TorchProgram, folder: Path) -> None:
    save_program(program, folder / "model.pt2")


def _open(folder: Path, *, options: Options) -> TorchSession:
    torch.set_num_threads(options.threads)
    with quiet():
        exported = torch.export.load(folder / "model.pt2")
    placeholder = next(
        node for node in exported.graph.nodes if node.name in exported.graph_signature.user_inputs
    )
    return TorchSession(
        exported.module(), shape=tuple(placeholder.meta["val"].shape[1:]), options=options
    )
