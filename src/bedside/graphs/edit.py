"""Small edits of a graph, in place: its parts exchanged, notes dropped, names made short."""

import itertools
from collections.abc import Collection, Iterable

import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator


def set_nodes(model: onnx.ModelProto, nodes: Iterable[onnx.NodeProto]) -> None:
    """Replace the nodes of a graph."""
    kept = list(nodes)
    del model.graph.node[:]
    model.graph.node.extend(kept)


def set_tensors(model: onnx.ModelProto, tensors: Iterable[onnx.TensorProto]) -> None:
    """Replace the initializers of a graph."""
    kept = list(tensors)
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def drop_unused(model: onnx.ModelProto) -> None:
    """Drop nodes and initializers that no output rests on."""
    needed = {value.name for value in model.graph.output}
    kept: list[onnx.NodeProto] = []
    for node in reversed(model.graph.node):
        if needed & set(node.output):
            needed.update(node.input)
            kept.append(node)
    set_nodes(model, reversed(kept))
    set_tensors(model, [tensor for tensor in model.graph.initializer if tensor.name in needed])


def drop_notes(model: onnx.ModelProto) -> None:
    """Drop what only debuggers read: stack traces, paths, and shapes in between."""
    graph = model.graph
    for message in (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        message.doc_string = ""
        del message.metadata_props[:]
    del graph.value_info[:]


def widen(model: onnx.ModelProto) -> None:
    """Work out what rests on initializers alone: weights become f32 tensors under their names.

    Undoes whatever way of storing them the export has chosen.
    """
    known = {tensor.name for tensor in model.graph.initializer}
    stored: list[onnx.NodeProto] = []
    running: list[onnx.NodeProto] = []
    for node in model.graph.node:
        constant = bool(node.input) and all(name in known for name in node.input)
        (stored if constant else running).append(node)
        known.update(node.output if constant else ())
    if not stored:
        return
    wanted = sorted(
        {name for node in stored for name in node.output}
        & {name for node in running for name in node.input}
    )
    outputs = [helper.make_empty_tensor_value_info(name) for name in wanted]
    part = helper.make_model(
        helper.make_graph(stored, "constants", [], outputs, list(model.graph.initializer)),
        ir_version=model.ir_version,
        opset_imports=model.opset_import,
    )
    values = ReferenceEvaluator(part).run(None, {})
    found = [numpy_helper.from_array(v, n) for n, v in zip(wanted, values, strict=True)]
    set_nodes(model, running)
    set_tensors(model, [*model.graph.initializer, *found])
    drop_unused(model)


def shorten_names(model: onnx.ModelProto, *, keep: Collection[str] = ()) -> None:
    """Number the values that nobody looks for, and say each constant of sizes once, in place.

    Weights, biases, input and output keep their names. Nodes lose theirs, which ONNX does
    not ask for: a layer is known by its weights.

    Args:
        model: The graph.
        keep: Values that somebody looks for.
    """
    graph = model.graph
    renamed = _share_sizes(model)
    kept = {*keep, *(value.name for value in (*graph.input, *graph.output))}
    kept.update(tensor.name for tensor in graph.initializer)
    for node in graph.node:
        kept.update(node.input[1:] if node.op_type == "Conv" else ())
    free = (str(number) for number in itertools.count() if str(number) not in kept)
    for node in graph.node:
        renamed.update({name: next(free) for name in node.output if name and name not in kept})
    for node in graph.node:
        node.name = ""
        for names in (node.input, node.output):
            names[:] = [renamed.get(name, name) for name in names]


def _share_sizes(model: onnx.ModelProto) -> dict[str, str]:
    """Keep one of all int64 tensors that are alike; give the new name of each by the old one."""
    renamed: dict[str, str] = {}
    first: dict[tuple[tuple[int, ...], bytes], str] = {}
    tensors = []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.INT64:
            tensors.append(tensor)
            continue
        value = numpy_helper.to_array(tensor)
        key = (value.shape, value.tobytes())
        if key not in first:
            first[key] = f"c{len(first)}"
            tensors.append(numpy_helper.from_array(value, first[key]))
        renamed[tensor.name] = first[key]
    set_tensors(model, tensors)
    return renamed
