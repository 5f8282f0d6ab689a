"""torch to ONNX: batch norms folded, weights stored in 16 bits, compared with torch."""

import copy
import io
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import nn
from torch.overrides import TorchFunctionMode

from bedside.errors import ExportError
from bedside.export.parity import check_parity, make_inputs
from bedside.graphs.columns import join_columns, round_to_half
from bedside.graphs.edit import drop_notes, set_nodes, shorten_names
from bedside.graphs.integers import store_integers
from bedside.graphs.space_to_depth_stem import read_by_cells
from bedside.layers.rounding import to_plain
from bedside.layers.tracing import exporting
from bedside.system.quiet import quiet

OPSET = 20
# ONNX Runtime 1.18 and OpenVINO 2024 read this version of the file format already.
IR_VERSION = 10
# The exporter reorders sums and folds batch norms: some roundings of f32, 6e-8 each.
EXACT_TOLERANCE = 1e-4
# Rounding weights to 9 bits moves each by up to 1e-3 of itself; through some twenty layers
# the errors add like a random walk, with room for networks that amplify them.
STORED_TOLERANCE = 1e-2
# Bits of f16's mantissa that are rounded away. What is left, 9 significant bits, is still
# one more than bf16 has, and the file deflates by a tenth more. A network that amplifies
# these roundings too much keeps all bits of f16, or stays in f32.
_DROPPED_BITS = (2, 0, None)
# Smaller tensors, such as biases, stay in f32: nothing is gained.
_SMALLEST_STORED = 256
_LARGEST_STORED = 2.0**15


def export_onnx(model: nn.Module, *, input_shape: tuple[int, ...], quickly: bool = False) -> bytes:
    """Export a model to an ONNX graph that stores weights in 16 bits and computes in f32.

    The graph has one input "image" and one output "logits", both of fixed size. Large
    weights are stored in f16 with a cast to f32, which runtimes fold away as they load.
    The graph is compared with torch before and after its weights are rounded; if rounding
    changes its results too much, its weights are stored in f32.

    Args:
        model: Any torch module from one tensor to one; it is left as it was.
        input_shape: (1, C, *S).
        quickly: Whether torch's older exporter is used, which takes a tenth of the time, and the
            graph is compared after rounding only: for temporary graphs.

    Returns:
        The ONNX model, without names of files or people in it.

    Raises:
        ExportError: If the model cannot be exported, or the graph gives other results.
    """
    frozen = copy.deepcopy(model).cpu().float().eval()
    inputs = make_inputs(input_shape)
    trace = trace_quickly if quickly else trace_onnx
    exported = trace(frozen, torch.from_numpy(inputs[-1]))
    shorten_names(exported)
    exact: bytes = exported.SerializeToString()
    if not quickly:
        check_parity(exact, frozen, inputs=inputs, tolerance=EXACT_TOLERANCE)
    for dropped_bits in _DROPPED_BITS:
        graph = _store(exact, dropped_bits=dropped_bits)
        try:
            check_parity(graph, frozen, inputs=inputs, tolerance=STORED_TOLERANCE)
        except ExportError:
            if dropped_bits is None:
                raise
        else:
            break
    return graph


def trace_onnx(model: nn.Module, example: torch.Tensor) -> onnx.ModelProto:
    """Export a model to an f32 graph, without comparing their results.

    Args:
        model: In evaluation mode; it is left as it was.
        example: An input of the size that the graph is made for.

    Raises:
        ExportError: If the model cannot be exported.
    """
    return _finish(_export(to_plain(model), example))


def trace_quickly(model: nn.Module, example: torch.Tensor) -> onnx.ModelProto:
    """Export a model by torch's older exporter; runtimes optimize the graph to the same network.

    Args:
        model: In evaluation mode; it is left as it was.
        example: An input of the size that the graph is made for.
    """
    file = io.BytesIO()
    # Branches are folded where they are children, and a part of a network may be one itself.
    plain = to_plain(nn.Sequential(model)).eval()
    with quiet(), exporting(), torch.no_grad(), _PlainSizes():
        torch.onnx.export(
            plain,
            (example,),
            file,  # type: ignore[arg-type]
            dynamo=False,
            opset_version=OPSET,
            input_names=["image"],
            output_names=["logits"],
        )
    return _finish(onnx.load_from_string(file.getvalue()))


class _PlainSizes(TorchFunctionMode):
    """Makes sizes plain numbers while torch's older exporter traces.

    Otherwise arithmetic on sizes becomes part of the graph, where integer division rounds towards
    zero.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call a function of torch."""
        result = func(*args, **(kwargs or {}))
        return torch.Size(map(int, result)) if isinstance(result, torch.Size) else result


def _export(model: nn.Module, example: torch.Tensor) -> onnx.ModelProto:
    """Run torch's exporter without its messages, and check what came out."""
    try:
        with quiet():
            program = torch.onnx.export(
                model,
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=["image"],
                output_names=["logits"],
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        reason = str(error).strip().splitlines()[0]
        raise ExportError(f"torch cannot export {type(model).__name__}: {reason}") from error
    if program is None:
        raise ExportError(f"torch gave no graph of {type(model).__name__}.")
    exported: onnx.ModelProto = program.model_proto
    if any(node.op_type == "BatchNormalization" for node in exported.graph.node):
        raise ExportError(
            "a batch norm did not fold into a convolution; put each right behind its "
            "convolution, as layers.conv.ConvNorm does."
        )
    return exported


def _finish(model: onnx.ModelProto) -> onnx.ModelProto:
    model.ir_version = IR_VERSION
    read_by_cells(model)
    drop_notes(model)
    return model


def _store(graph: bytes, *, dropped_bits: int | None) -> bytes:
    """Store weights that lie on a grid as integers, and others in half precision.

    Args:
        graph: All of it in f32.
        dropped_bits: Bits of f16's mantissa to round away; None to leave in f32 what lies on
            no grid.
    """
    model = onnx.load_from_string(graph)
    integers = store_integers(model)
    if dropped_bits is not None:
        if integers:
            # Beside integers of few bits, biases and scales are a good part of the file.
            join_columns(model, dropped_bits=dropped_bits)
        _store_in_half(model, dropped_bits=dropped_bits)
    if integers:
        shorten_names(model)
    stored: bytes = model.SerializeToString()
    return stored


def _store_in_half(model: onnx.ModelProto, *, dropped_bits: int) -> None:
    """Store large f32 weights in f16 with a cast to f32, except those beyond its range."""
    casts = []
    for index, tensor in enumerate(model.graph.initializer):
        if tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(tensor)
        if values.size < _SMALLEST_STORED or np.abs(values).max() > _LARGEST_STORED:
            continue
        stored = f"{tensor.name}_f16"
        casts.append(helper.make_node("Cast", [stored], [tensor.name], to=onnx.TensorProto.FLOAT))
        half = numpy_helper.from_array(round_to_half(values, dropped_bits), stored)
        model.graph.initializer[index].CopyFrom(half)
    set_nodes(model, [*casts, *model.graph.node])
