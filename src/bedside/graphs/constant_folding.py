"""Constant folding: values of a graph that depend on its weights only, such as casts and scales."""

from collections.abc import Collection, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from bedside.graphs.edit import drop_unused, set_nodes, set_tensors


def fold_constants(graph: bytes, names: Collection[str]) -> dict[str, np.ndarray]:
    """Values of a graph that do not depend on its input.

    Args:
        graph: Serialized ONNX.
        names: Values that are wanted.

    Returns:
        Those of them that depend on weights only, by name.
    """
    model = onnx.load_from_string(graph)
    stored = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    makers = {name: node for node in model.graph.node for name in node.output}
    needed: set[str] = set()
    wanted = [n for n in names if n not in stored and _is_constant(n, stored, makers, needed)]
    values = {name: stored[name] for name in names if name in stored}
    if wanted:
        nodes = [node for node in model.graph.node if node.output[0] in needed]
        values |= _evaluate(model, nodes, wanted)
    return values


def _is_constant(
    name: str,
    stored: dict[str, np.ndarray],
    makers: dict[str, onnx.NodeProto],
    needed: set[str],
) -> bool:
    """Whether a value depends on weights only; adds the nodes that compute it to `needed`."""
    if not name or name in stored:
        return True
    node = makers.get(name)
    if node is None:
        return False
    found = {node.output[0]}
    if not all(_is_constant(source, stored, makers, found) for source in node.input):
        return False
    needed.update(found)
    return True


def _evaluate(
    model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto], wanted: Collection[str]
) -> dict[str, np.ndarray]:
    """Run nodes that take no input, by ONNX's reference evaluator."""
    used = {name for node in nodes for name in node.input}
    tensors = [tensor for tensor in model.graph.initializer if tensor.name in used]
    outputs = [helper.make_empty_tensor_value_info(name) for name in wanted]
    part = helper.make_model(
        helper.make_graph(nodes, "constants", [], outputs, tensors),
        ir_version=model.ir_version,
        opset_imports=model.opset_import,
    )
    results = ReferenceEvaluator(part).run(None, {})
    return dict(zip(wanted, results, strict=True))


def widen(model: onnx.ModelProto, *, casts_only: bool = False) -> None:
    """Fold what depends on initializers only: weights become f32 tensors, in place.

    This undoes any compact storage that the export has chosen; names stay.

    Args:
        model: The graph.
        casts_only: Whether other operations stay, such as the scales of quantized weights.
    """
    known = {tensor.name for tensor in model.graph.initializer}
    stored: list[onnx.NodeProto] = []
    running: list[onnx.NodeProto] = []
    for node in model.graph.node:
        constant = bool(node.input) and all(name in known for name in node.input)
        constant = constant and (node.op_type == "Cast" or not casts_only)
        (stored if constant else running).append(node)
        known.update(node.output if constant else ())
    if not stored:
        return
    wanted = sorted(
        {name for node in stored for name in node.output}
        & {name for node in running for name in node.input}
    )
    values = _evaluate(model, stored, wanted)
    found = [numpy_helper.from_array(value, name) for name, value in values.items()]
    set_nodes(model, running)
    set_tensors(model, [*model.graph.initializer, *found])
    drop_unused(model)


def widen_weights(graph: bytes) -> bytes:
    """A serialized graph whose weights are stored in the type that they are computed in."""
    model = onnx.load_from_string(graph)
    widen(model, casts_only=True)
    content: bytes = model.SerializeToString()
    return content
