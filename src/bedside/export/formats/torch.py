"""A program of torch.export, `model.pt2`, that runs in torch without this package."""

from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bedside.export.formats.format import Converter, Options
from bedside.export.programs import TorchProgram
from bedside.runtime.contract import GraphSession
from bedside.system.quiet import quiet


class TorchSession(GraphSession):
    """An exported program in torch."""

    backend = "torch"

    def _run(self, network: Any, image: np.ndarray, logits: np.ndarray) -> None:
        with torch.inference_mode():
            logits[...] = network(torch.from_numpy(image)).numpy()


def make_converter(options: Options) -> Converter:
    """The converter to programs of torch.export."""
    return Converter(
        convert=_convert,
        open=partial(_open, options=options),
        made_with={"torch": version("torch")},
        runs_in=f"torch {version('torch')}",
    )


def save_program(program: TorchProgram, path: Path) -> None:
    """Write a program with torch.export.save."""
    with quiet():
        torch.export.save(program.exported, path)


def _convert(program: TorchProgram, folder: Path) -> None:
    save_program(program, folder / "model.pt2")


def _open(folder: Path, *, options: Options) -> TorchSession:
    torch.set_num_threads(options.threads)
    with quiet():
        exported = torch.export.load(folder / "model.pt2")
    signature = exported.graph_signature
    image, logits = (
        next(
            tuple(node.meta["val"].shape[1:]) for node in exported.graph.nodes if node.name in names
        )
        for names in (signature.user_inputs, signature.user_outputs)
    )
    return TorchSession(
        exported.module(),
        takes=image,
        gives=logits,
        precision=options.precision,
        threads=options.threads,
    )
