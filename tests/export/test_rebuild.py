import dataclasses

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from bedside.bundle import read_bundle, shipped_bundles, write_bundle
from bedside.errors import ExportError
from bedside.export.onnx import trace_onnx
from bedside.export.parity import make_inputs
from bedside.export.rebuild import rebuild_from_graph, rebuild_network, restore_statistics
from bedside.models import create
from bedside.spec import LevelSpec, ModelSpec
from models_for_tests import (
    INPUT_SHAPE,
    make_card,
    make_graph,
    make_noise,
    make_spec,
    make_split,
    run_torch,
)
from tolerances import STORED_WEIGHTS_RTOL


def make_network(block, spatial_dims, *, shared="none", **changes):
    """A network of one level of this block, whose batch norms have seen data."""
    level = LevelSpec(
        block, channels=16, depth=2, num_heads=2, head_dim=8, window=4, halo=2, region=4,
        top_k=2, grid=3, shared=shared,
    )  # fmt: skip
    spec = ModelSpec(
        architecture="hybrid", in_channels=2, num_classes=3, levels=(level,), stem_channels=8,
        decoder_channels=8, spatial_dims=spatial_dims, stem_stride=2, **changes,
    )  # fmt: skip
    torch.manual_seed(0)
    model = create(spec).train()
    with torch.no_grad():
        for _ in range(3):
            model(torch.rand(2, 2, *[16] * spatial_dims))
    return model.eval(), spec


def run(network, tensor):
    with torch.inference_mode():
        return network.create()(torch.from_numpy(tensor)).numpy()


@pytest.mark.parametrize(
    ("block", "spatial_dims", "shared"),
    [
        ("reparam", 2, "none"),
        ("window", 2, "both"),
        ("dense", 3, "mlp"),
    ],
)
def test_what_was_exported_comes_back_into_its_spec(block, spatial_dims, shared):
    model, spec = make_network(
        block, spatial_dims, shared=shared, deep_supervision=True, boundary=True
    )
    shape = (1, 2, *[16] * spatial_dims)
    tensor = make_inputs(shape)[-1]
    graph = trace_onnx(model, torch.from_numpy(tensor)).SerializeToString()
    rebuilt = rebuild_from_graph(graph, spec, input_shape=shape)
    assert rebuilt.spec == spec
    with torch.inference_mode():
        wanted = model(torch.from_numpy(tensor)).numpy()
    allowed = STORED_WEIGHTS_RTOL * max(1, np.abs(wanted).max())
    np.testing.assert_allclose(run(rebuilt, tensor), wanted, rtol=0, atol=allowed)


def test_a_network_can_be_taken_out_of_its_bundle(tmp_path):
    path = tmp_path / "tiny.bedside"
    write_bundle(
        path, spec=make_spec(), card=make_card(), graphs={"f32": make_graph()}, split=make_split()
    )
    rebuilt = rebuild_network(read_bundle(path))
    wanted = run_torch(make_noise())
    allowed = STORED_WEIGHTS_RTOL * np.abs(wanted).max()
    np.testing.assert_allclose(run(rebuilt, make_noise()), wanted, rtol=0, atol=allowed)
    stem = rebuilt.weights["stem.0.0.weight"]
    first = onnx.load_from_string(make_graph()).graph
    names = {tensor.name: numpy_helper.to_array(tensor) for tensor in first.initializer}
    assert np.array_equal(stem.numpy(), names["stem.0.0.weight"])


def test_a_shipped_bundle_comes_back():
    path = next(path for path in shipped_bundles() if path.stem == "lidc-nodule")
    bundle = read_bundle(path)
    assert rebuild_network(bundle).spec == bundle.spec.model


def to_integers(graph):
    """The same graph, its weights in 8 bits with a scale a channel, under other names."""
    model = onnx.load_from_string(graph)
    nodes, tensors = [], []
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.ndim == 4 and tensor.data_type == TensorProto.FLOAT16:
            scale = np.maximum(np.abs(values).max(axis=(1, 2, 3)).astype(np.float32), 1e-9) / 127
            whole = np.round(values / scale[:, None, None, None]).astype(np.int8)
            names = [f"{tensor.name}_{part}" for part in ("int", "scale", "zero")]
            zeros = np.zeros(len(scale), np.int8)
            tensors += [
                numpy_helper.from_array(v, n)
                for v, n in zip((whole, scale, zeros), names, strict=True)
            ]
            nodes.append(
                helper.make_node(
                    "DequantizeLinear", names, [tensor.name.removesuffix("_f16")], axis=0
                )
            )
        else:
            tensors.append(tensor)
    kept = {node.output[0] for node in nodes}
    nodes += [node for node in model.graph.node if node.output[0] not in kept]
    for node in nodes:
        for index, name in enumerate(node.input):
            if node.op_type == "Conv" and index == 1:
                node.input[index] = f"other/{name}"
        if node.op_type in ("DequantizeLinear", "Cast") or node.output[0] in kept:
            node.output[0] = f"other/{node.output[0]}"
    tensors = [
        numpy_helper.from_array(numpy_helper.to_array(t), f"other/{t.name}")
        if t.name.endswith("weight")
        else t
        for t in tensors
    ]
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(tensors)
    return model.SerializeToString()


def test_weights_in_small_integers_under_other_names_are_found_by_their_order():
    graph = to_integers(make_graph())
    onnx.checker.check_model(onnx.load_from_string(graph))
    rebuilt = rebuild_from_graph(graph, make_spec().model, input_shape=INPUT_SHAPE)
    exact = rebuild_from_graph(make_graph(), make_spec().model, input_shape=INPUT_SHAPE)
    name = "levels.0.0.expand.0.weight"
    difference = (rebuilt.weights[name] - exact.weights[name]).abs().max()
    assert 0 < difference < exact.weights[name].abs().max() / 200


def test_a_graph_of_another_network_is_refused():
    spec = make_spec().model
    deeper = dataclasses.replace(spec.levels[0], depth=2)
    with pytest.raises(ExportError, match=r"the graph has 17 convolutions, .* has 20"):
        rebuild_from_graph(
            make_graph(),
            dataclasses.replace(spec, levels=(deeper, spec.levels[1])),
            input_shape=INPUT_SHAPE,
        )
    wider = dataclasses.replace(spec, stem_channels=8)
    with pytest.raises(ExportError, match=r'"stem.0.0.weight" has weights of shape \(16, 1, 3, 3'):
        rebuild_from_graph(make_graph(), wider, input_shape=INPUT_SHAPE)


def test_a_graph_that_computes_something_else_is_refused():
    model = onnx.load_from_string(make_graph())
    relu = next(node for node in model.graph.node if node.op_type == "Relu")
    relu.op_type = "Abs"
    with pytest.raises(ExportError, match="differs from torch"):
        rebuild_from_graph(model.SerializeToString(), make_spec().model, input_shape=INPUT_SHAPE)


def test_statistics_change_nothing_and_let_it_train_on():
    images = [make_noise(4, seed=seed) for seed in range(8)]
    bare = rebuild_from_graph(make_graph(), make_spec().model, input_shape=INPUT_SHAPE)
    ready = restore_statistics(bare, images)
    wanted = run(bare, images[0])
    scale = np.abs(wanted).max()
    np.testing.assert_allclose(run(ready, images[0]), wanted, rtol=0, atol=1e-4 * scale)
    drift = {}
    for name, network in (("bare", bare), ("ready", ready)):
        with torch.no_grad():
            logits = network.create().train()(torch.from_numpy(np.concatenate(images)))
        drift[name] = np.abs(logits[:4].numpy() - wanted).mean() / scale
    assert drift["ready"] < 0.01 < drift["bare"]
    with pytest.raises(ExportError, match="no inputs"):
        restore_statistics(bare, [])
