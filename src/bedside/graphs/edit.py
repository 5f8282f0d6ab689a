"""Small edits of a graph, in place: nodes and tensors replaced, names shortened."""

import itertools
from collections.abc import Collection, Iterable

import onnx
from onnx import TensorProto, numpy_helper


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
    """Drop nodes and initializers that no output depends on."""
    needed = {value.name for value in model.graph.output}
    kept: list[onnx.NodeProto] = []
    for node in reversed(model.graph.node):
        if needed & set(node.output):
            needed.update(node.input)
            kept.append(node)
    set_nodes(model, reversed(kept))
    set_tensors(model, [tensor for tensor in model.graph.initializer if tensor.name in needed])


def drop_notes(model: onnx.ModelProto) -> None:
    """Drop debug information: stack traces, paths, and intermediate shapes."""
    graph = model.graph
    for message in (model, graph, *graph.node, *graph.initializer, *graph.input, *graph.output):
        message.doc_string = ""
        del message.metadata_props[:]
    del graph.value_info[:]


def shorten_names(model: onnx.ModelProto, *, keep: Collection[str] = ()) -> None:
    """Number intermediate values, and store equal int64 constants once, in place.

    Weights, biases, input and output keep their names. Nodes lose theirs, which are optional in
    ONNX: a layer is identified by its weights.

    Args:
        model: The graph.
        keep: Values that keep their names.
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
    """Keep one of several equal int64 tensors; returns new names by old ones."""
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
