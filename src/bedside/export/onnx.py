"""torch -> ONNX: batch norm folded, weights stored in 16 bits, and compared with torch."""

import copy

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import nn

from bedside.errors import ExportError
from bedside.export.parity import check_parity, make_inputs
from bedside.layers.conv import fold_branches
from bedside.quiet import quiet

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
_DROPPED_BITS = (2, 0)
# Smaller tensors, such as biases, stay in f32: nothing is gained.
_SMALLEST_STORED = 256
_LARGEST_STORED = 2.0**15


def export_onnx(model: nn.Module, *, input_shape: tuple[int, ...]) -> bytes:
    """Turn a model into a serialized ONNX graph that is half its size and computes in f32.

    The graph has one input "image" and one output "logits", both of fixed size. Large
    weights are stored in f16 with a cast to f32, which runtimes fold away as they load.
    The graph is compared with torch twice, before and after its weights are rounded; if
    it does not bear the rounding, its weights are stored in f32.

    Args:
        model: Any torch module from one tensor to one; it is left as it was.
        input_shape: (1, C, H, W).

    Returns:
        The ONNX model, without names of files or people in it.

    Raises:
        ExportError: If the model cannot be exported, or the graph does something else.
    """
    frozen = copy.deepcopy(model).cpu().float().eval()
    inputs = make_inputs(input_shape)
    exported = trace_onnx(frozen, torch.from_numpy(inputs[-1]))
    check_parity(exported.SerializeToString(), frozen, inputs=inputs, tolerance=EXACT_TOLERANCE)
    exact: bytes = exported.SerializeToString()
    for dropped_bits in _DROPPED_BITS:
        graph = _store_in_half(exact, dropped_bits=dropped_bits)
        try:
            check_parity(graph, frozen, inputs=inputs, tolerance=STORED_TOLERANCE)
        except ExportError:
            continue
        return graph
    return exact


def trace_onnx(model: nn.Module, example: torch.Tensor) -> onnx.ModelProto:
    """Turn a model into a graph in f32, without a look at what it computes.

    Args:
        model: In evaluation mode; it is left as it was.
        example: An input of the size that the graph is made for.

    Raises:
        ExportError: If the model cannot be exported.
    """
    return _strip(_export(fold_branches(copy.deepcopy(model)), example))


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


def _strip(model: onnx.ModelProto) -> onnx.ModelProto:
    """Drop what only debuggers read: stack traces, paths, and shapes in between."""
    model.ir_version = IR_VERSION
    for message in (model, model.graph, *model.graph.node, *model.graph.initializer):
        message.doc_string = ""
        del message.metadata_props[:]
    for value in (*model.graph.input, *model.graph.output):
        value.doc_string = ""
        del value.metadata_props[:]
    del model.graph.value_info[:]
    return model


def _store_in_half(graph: bytes, *, dropped_bits: int) -> bytes:
    """Store large f32 weights in f16, each behind a cast to f32; those beyond its range stay."""
    model = onnx.load_from_string(graph)
    casts = []
    for index, tensor in enumerate(model.graph.initializer):
        if tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        weights = numpy_helper.to_array(tensor)
        if weights.size < _SMALLEST_STORED or np.abs(weights).max() > _LARGEST_STORED:
            continue
        stored = f"{tensor.name}_f16"
        casts.append(helper.make_node("Cast", [stored], [tensor.name], to=onnx.TensorProto.FLOAT))
        half = numpy_helper.from_array(_round_to_half(weights, dropped_bits), stored)
        model.graph.initializer[index].CopyFrom(half)
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    stored_graph: bytes = model.SerializeToString()
    return stored_graph


def _round_to_half(weights: np.ndarray, dropped_bits: int) -> np.ndarray:
    """Round to the nearest f16 whose last bits are zero.

    Example:
        >>> _round_to_half(np.float32([0.0, 1.0, -1.001, 0.3333]), 2).tolist()
        [0.0, 1.0, -1.0, 0.3330078125]
    """
    bits = weights.astype(np.float16).view(np.uint16)
    half_step = np.uint16((1 << dropped_bits) >> 1)
    rounded: np.ndarray = (bits + half_step) >> dropped_bits << dropped_bits
    return rounded.view(np.float16)
