"""One graph for many sizes: possible in both runtimes, for whole windows, regions and cells.

Bundles do not use it (their graphs have one size, which runtimes plan for), so this is tested
on the attention alone. Sizes that are no multiples need another amount of padding each, which
a graph of open size cannot hold.
"""

import dataclasses

import numpy as np
import onnxruntime
import openvino
import pytest
import torch
from torch.export import Dim

from bedside.layers.attention import MECHANISMS, Attention
from bedside.spec import LevelSpec
from bedside.system.quiet import quiet
from tolerances import F32_LOGIT_ATOL

LEVEL = LevelSpec(
    "window", channels=8, depth=1, num_heads=2, head_dim=4, window=4, halo=2, region=4, top_k=2,
    grid=2,
)  # fmt: skip


@pytest.mark.parametrize("block", MECHANISMS)
def test_one_graph_serves_many_sizes(block):
    spatial_dims = 2
    torch.manual_seed(0)
    model = Attention(dataclasses.replace(LEVEL, block=block), spatial_dims=spatial_dims).eval()
    open_sizes = {2 + axis: 8 * Dim(f"size_{axis}", min=2, max=32) for axis in range(spatial_dims)}
    with quiet():
        program = torch.onnx.export(
            model, (torch.rand(1, 8, *(24, 32, 16)[:spatial_dims]),), dynamo=True, opset_version=20,
            dynamic_shapes=(open_sizes,), verbose=False,
        )  # fmt: skip
    graph = program.model_proto.SerializeToString()
    core = openvino.Core()
    # Where the processor has bf16, OpenVINO would compute in it unless told not to.
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(core.read_model(graph), "CPU", exact)
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    for size in ((32, 16, 24)[:spatial_dims], (16, 48, 16)[:spatial_dims]):
        x = np.random.default_rng(0).standard_normal((1, 8, *size)).astype(np.float32)
        with torch.no_grad():
            expected = model(torch.from_numpy(x)).numpy()
        assert expected.std() > 100 * F32_LOGIT_ATOL
        (seen,) = session.run(None, {session.get_inputs()[0].name: x})
        assert np.allclose(seen, expected, atol=F32_LOGIT_ATOL)
        assert np.allclose(compiled(x)[0], expected, atol=F32_LOGIT_ATOL)
