"""Networks whose blocks have widths, heads and ranks of their own: built, trained, exported."""

import dataclasses

import numpy as np
import pytest
import torch

from bedside.bundle.graph_guard import check_graph
from bedside.errors import SpecError
from bedside.export.onnx import trace_onnx
from bedside.export.parity import check_parity
from bedside.models import TrainedNetwork, create
from bedside.spec import LevelSpec, ModelSpec
from tolerances import F32_LOGIT_ATOL

SIZES = {2: (24, 20), 3: (16, 12, 16)}


def make_spec(spatial_dims):
    levels = (
        LevelSpec("reparam", 8, 1, num_heads=2, head_dim=4, exchange_window=4),
        LevelSpec("window", 16, 2, num_heads=4, head_dim=4, window=(2, 4), shared="both"),
        LevelSpec("pooled", 12, 0),
    )
    return ModelSpec(
        "hybrid", 2, 3, levels, stem_channels=8, decoder_channels=8,
        spatial_dims=spatial_dims, stem_stride=2,
        deep_supervision=True, boundary=True,
        hidden={"levels.0.0": 12, "levels.1.0": 20, "fusions.1": 5},
        heads={"levels.0.1": 1, "levels.1.0": 2},
        ranks={
            "stem.0": (2, 4), "downs.0": (3, 16), "downs.1": (5, 6), "laterals.1": (3,),
            "levels.0.1.project_in": (3,), "levels.1.0.expand": (4,), "levels.1.0.project": (5,),
            "levels.1.0.attention.project_out": (4,), "fusions.1.expand": (4,),
        },
    )  # fmt: skip


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_own_widths_learn_and_export_and_come_back_by_a_strict_load(spatial_dims):
    torch.manual_seed(0)
    spec = make_spec(spatial_dims)
    model = create(spec)
    x = torch.rand(2, 2, *SIZES[spatial_dims])
    for _ in range(2):
        outputs = model.supervise(x)
        sum(
            part.square().mean() for part in (outputs.logits, *outputs.auxiliary, outputs.boundary)
        ).backward()
    assert all(p.grad is not None and p.grad.abs().sum() for p in model.parameters())
    rebuilt = TrainedNetwork.of(model, spec).create()
    x = x[:1]
    with torch.no_grad():
        assert torch.equal(rebuilt(x), model.eval()(x))
    graph = trace_onnx(rebuilt, x).SerializeToString()
    check_parity(graph, rebuilt, inputs=[np.asarray(x)], tolerance=F32_LOGIT_ATOL)
    check_graph(graph, where="the graph")


def test_blocks_are_as_wide_as_the_spec_says():
    weights = create(make_spec(2)).state_dict()
    shapes = {name: tuple(weight.shape[:2]) for name, weight in weights.items()}
    assert shapes["levels.0.0.expand.0.weight"] == (12, 8)
    assert shapes["levels.0.0.spatial.branches.1.0.weight"] == (12, 1)
    assert shapes["levels.0.1.project_in.0.widen.weight"] == (4 + 8, 3)
    assert shapes["levels.1.0.attention.project_in.0.weight"] == (8 + 8, 16)
    assert shapes["levels.1.1.expand.1.weight"] == (20,)
    assert "levels.1.1.expand.0.narrow.weight" not in shapes
    assert shapes["downs.0.0.core.weight"] == (16, 3)
    assert shapes["fusions.0.expand.0.weight"] == (16, 8)


@pytest.mark.parametrize("path", ["levels.1.0.spatial", "levels.1.1.expand", "head", "down.0"])
def test_ranks_of_what_cannot_be_factored_are_refused(path):
    spec = dataclasses.replace(make_spec(2), ranks={path: (2,)})
    with pytest.raises(SpecError, match=f'ranks names "{path}".* Did you mean'):
        create(spec)
