"""Networks as graphs on disk in every precision, and what each precision keeps of accuracy."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import openvino
import torch
from torch import nn

from bedside.compression.quantize import quantize_int8
from bedside.datasets import Case
from bedside.evaluation.cases import Evaluation, evaluate_cases
from bedside.export.onnx import export_onnx, trace_onnx
from bedside.export.parity import check_parity, make_inputs
from bedside.runtime.execution_modes import has_int8_products
from bedside.runtime.openvino import OpenvinoSession, native_precisions, open_model
from bedside.segment import Segmenter
from bedside.spec import DeploymentSpec
from bedside.system.atomic import write_bytes
from bedside.system.quiet import quiet
from peers.networks import Network
from peers.transunet import freeze_standardized

# The exporter reorders sums, and norms of an instance amplify what that changes.
TOLERANCE = 1e-3
MAX_DICE_DROP = 0.005
"""Largest loss of mean validation Dice against f32 with which a precision may be used."""


@dataclass(frozen=True)
class PrecisionCheck:
    """What one precision keeps.

    Attributes:
        precision: "f32", "bf16" or "int8".
        mean_dice: Mean over structures on the validation patients.
        drop: Loss of it against f32; negative is a gain.
        admissible: Whether the loss is within `MAX_DICE_DROP`.
    """

    precision: str
    mean_dice: float
    drop: float
    admissible: bool


def write_graphs(
    folder: Path,
    network: Network,
    model: nn.Module,
    *,
    shape: tuple[int, ...],
    read_calibration: Callable[[], Sequence[np.ndarray]],
    int8: bool,
) -> dict[str, Path]:
    """Export a network in f32, and in 8 bits if wanted; what lies in the folder already is kept.

    Ours go the way that `bedside build` takes. The classics are quantized as OpenVINO's own
    models, which suits them better than ONNX with quantization in it.

    Args:
        folder: Made if missing.
        network: Its row of the table.
        model: It, with weights; in evaluation mode afterwards.
        shape: (1, C, H, W).
        read_calibration: Gives tensors of that shape to read ranges from, if need be.
        int8: Whether to quantize it.

    Returns:
        The files by precision.

    Raises:
        ExportError: If it cannot be exported, or its graph does something else.
    """
    f32 = folder / "f32.onnx"
    if not f32.exists():
        write_bytes(f32, _export(network, model.eval(), shape))
    if not int8:
        return {"f32": f32}
    quantized = folder / ("int8.onnx" if network.ours else "int8.xml")
    if not quantized.exists():
        calibration = read_calibration()
        if network.ours:
            write_bytes(quantized, quantize_int8(f32.read_bytes(), calibration))
        else:
            _quantize_natively(f32, quantized, calibration, transformer=network.transformer)
    return {"f32": f32, "int8": quantized}


def choose_precisions() -> tuple[str, ...]:
    """Precisions that this processor computes itself and exactly.

    Where sums of products of bytes saturate, int8 is neither as fast nor as accurate as elsewhere.
    """
    exact = has_int8_products()
    return tuple(name for name in native_precisions() if exact or name != "int8")


def open_precisions(
    files: dict[str, Path], *, precisions: Sequence[str], threads: int
) -> dict[str, OpenvinoSession]:
    """Open a network in those of some precisions that it has a graph for."""
    sessions = {}
    for precision in precisions:
        path = files.get("int8" if precision == "int8" else "f32")
        if path is None:
            continue
        model = openvino.Core().read_model(path)
        sessions[precision] = open_model(model, precision=precision, threads=threads)
    return sessions


def evaluate_precisions(
    sessions: dict[str, OpenvinoSession], deployment: DeploymentSpec, cases: Sequence[Case]
) -> dict[str, Evaluation]:
    """Score every precision on cases' own grids.

    Args:
        sessions: By precision.
        deployment: The steps around the network.
        cases: Whose.
    """
    return {
        precision: evaluate_cases(Segmenter(deployment, session), cases)
        for precision, session in sessions.items()
    }


def check_precisions(
    sessions: dict[str, OpenvinoSession], deployment: DeploymentSpec, cases: Sequence[Case]
) -> list[PrecisionCheck]:
    """Measure what each precision loses against f32, on cases' own grids.

    Args:
        sessions: By precision, "f32" among them.
        deployment: The steps around the network.
        cases: Validation patients.
    """
    dice = {
        precision: float(np.mean([case.mean_dice for case in evaluation.cases]))
        for precision, evaluation in evaluate_precisions(sessions, deployment, cases).items()
    }
    return [
        PrecisionCheck(
            precision=precision,
            mean_dice=round(mean, 5),
            drop=round(dice["f32"] - mean, 5),
            admissible=dice["f32"] - mean <= MAX_DICE_DROP,
        )
        for precision, mean in dice.items()
    ]


def _export(network: Network, model: nn.Module, shape: tuple[int, ...]) -> bytes:
    """Export, and compare with torch on noise.

    `export_onnx` compares on a black image too, which norms of an instance cannot bear: they
    turn the rounding errors of a constant into logits of size 1.
    """
    if network.ours:
        return export_onnx(model, input_shape=shape)
    model = freeze_standardized(model)
    inputs = make_inputs(shape)[2:]
    graph: bytes = trace_onnx(model, torch.from_numpy(inputs[-1])).SerializeToString()
    check_parity(graph, model, inputs=inputs, tolerance=TOLERANCE)
    return graph


def _quantize_natively(
    source: Path, target: Path, calibration: Sequence[np.ndarray], *, transformer: bool
) -> None:
    """Quantize with NNCF's own choices for the kind of network."""
    with quiet():
        import nncf

        quantized = nncf.quantize(
            openvino.Core().read_model(source),
            nncf.Dataset(list(calibration)),
            subset_size=len(calibration),
            model_type=nncf.ModelType.TRANSFORMER if transformer else None,
        )
        openvino.save_model(quantized, target, compress_to_fp16=False)
