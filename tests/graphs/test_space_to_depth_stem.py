"""A stem over cells of voxels: the same sums as over voxels, in graphs and back in networks."""

import dataclasses

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from bedside.export.onnx import export_onnx
from bedside.export.rebuild import rebuild_from_graph
from bedside.graphs.space_to_depth_stem import read_by_cells
from bedside.models import create, named_spec


def make_graph(
    *,
    channels: int = 1,
    size: tuple[int | str, ...] = (4, 6, 8),
    batch: int = 1,
    stride: int = 2,
    kernel: int = 3,
    group: int = 1,
    readers: int = 1,
) -> onnx.ModelProto:
    axes = len(size)
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(4, channels // group, *[kernel] * axes)).astype(np.float32)
    bias = rng.normal(size=4).astype(np.float32)
    nodes = [
        helper.make_node(
            "Conv",
            ["image", "stem.weight", "stem.bias"],
            [f"made{reader}"],
            strides=[stride] * axes,
            pads=[(kernel - 1) // 2] * (2 * axes),
            group=group,
        )
        for reader in range(readers)
    ]
    shape = [batch, channels, *size]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [
            helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, [None] * (axes + 2))
            for node in nodes
        ],
        [
            numpy_helper.from_array(weight, "stem.weight"),
            numpy_helper.from_array(bias, "stem.bias"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])


@pytest.mark.parametrize(("size", "batch"), [((4, 6, 8), 1), ((2, 4, 6), 1), ((6, 2, 4), 3)])
def test_the_sums_are_those_over_voxels(size, batch):
    model = make_graph(size=size, batch=batch)
    image = np.random.default_rng(1).normal(size=(batch, 1, *size)).astype(np.float32)
    (wanted,) = ReferenceEvaluator(model).run(None, {"image": image})
    read_by_cells(model)
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == [
        "Reshape",
        "Transpose",
        "Reshape",
        "Conv",
    ]
    (found,) = ReferenceEvaluator(model).run(None, {"image": image})
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() < 1e-5


@pytest.mark.parametrize(
    "change",
    [
        {"channels": 2},
        {"size": (4, 5, 8)},
        {"size": (4, "height", 8)},
        {"size": (8, 8)},
        {"stride": 1},
        {"kernel": 5},
        {"channels": 2, "group": 2},
        {"readers": 2},
    ],
    ids=str,
)
def test_other_convolutions_stay_as_they_are(change):
    model = make_graph(**change)
    before = model.SerializeToString()
    read_by_cells(model)
    assert model.SerializeToString() == before


@pytest.mark.parametrize(("channels", "size"), [(1, 32), (2, 32), (1, 33)])
def test_a_network_comes_back_from_its_graph(channels, size):
    torch.manual_seed(0)
    spec = dataclasses.replace(named_spec("nano", spatial_dims=3), in_channels=channels)
    model = create(spec).eval()
    graph = export_onnx(model, input_shape=(1, channels, size, size, size))
    kernels = {tuple(t.dims[2:]) for t in onnx.load_from_string(graph).graph.initializer}
    assert ((2, 2, 2) in kernels) == (channels == 1 and size % 2 == 0)
    rebuilt = rebuild_from_graph(graph, spec, input_shape=(1, channels, size, size, size))
    image = torch.rand(1, channels, size, size, size)
    with torch.no_grad():
        difference = (rebuilt.create().eval()(image) - model(image)).abs().max()
    # The graph's weights are rounded to 9 bits.
    assert float(difference) < 1e-2
