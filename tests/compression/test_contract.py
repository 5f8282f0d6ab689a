"""Every named network x every tool: what comes out is a network like any other.

It runs, learns, is rebuilt by a strict load, and survives JSON; and a network that went through
several tools exports and does the same in every runtime.
"""

import dataclasses
import json

import numpy as np
import pytest
import torch

from bedside.bundle.graph_guard import check_graph
from bedside.compression.groups import list_groups
from bedside.compression.importance import measure_importance
from bedside.compression.kv_heads import merge_kv_heads
from bedside.compression.lowrank import factorize, list_candidates
from bedside.compression.norms import recalibrate_norms
from bedside.compression.prune import drop_block, shrink
from bedside.compression.sparsity import apply_masks, find_masks
from bedside.export.onnx import EXACT_TOLERANCE, trace_onnx
from bedside.export.parity import check_parity
from bedside.models import TrainedNetwork, create, named_spec
from bedside.spec import ModelSpec, from_mapping, to_mapping
from compressed_networks import make_batches, make_network, make_spec

SIZES = {2: (32, 32), 3: (16, 16, 16)}
PARTS = ("hidden", "heads", "channels", "stem", "decoder", "blocks")


def shrink_by_magnitude(part):
    def apply(network):
        importance = measure_importance(network, (), None, method="magnitude")
        return shrink(network, importance, part=part, ratio=0.5, round_to=4)

    return apply


def choose_ranks(network, **settings):
    return {each.path: each.ranks for each in list_candidates(network, **settings)}


TOOLS = {
    **{part: shrink_by_magnitude(part) for part in PARTS},
    "low rank": lambda network: factorize(network, choose_ranks(network, keep_energy=0.7)),
    "merge": merge_kv_heads,
    "sparse": lambda network: apply_masks(network, find_masks(network, fraction=0.5)),
    "2:4": lambda network: apply_masks(network, find_masks(network, pattern=(2, 4))),
}
NETWORKS = [(name, spatial_dims) for name in ("nano", "tiny") for spatial_dims in SIZES]


def make_named(name, spatial_dims):
    """A named network, but for four heads on two of keys, so that some can go and some merge."""
    spec = named_spec(name, spatial_dims=spatial_dims, in_channels=2, num_classes=3)
    levels = tuple(dataclasses.replace(level, num_heads=4, kv_heads=2) for level in spec.levels)
    spec = dataclasses.replace(spec, levels=levels, deep_supervision=True, boundary=True)
    torch.manual_seed(0)
    return TrainedNetwork.of(create(spec), spec)


def count(network):
    return sum(weight.numel() for weight in network.weights.values())


@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize(("name", "spatial_dims"), NETWORKS)
def test_every_tool_gives_a_network_that_runs_learns_and_is_rebuilt(name, spatial_dims, tool):
    network = make_named(name, spatial_dims)
    changed = TOOLS[tool](network)
    smaller = count(changed) < count(network)
    assert smaller == (tool not in ("sparse", "2:4"))
    read = from_mapping(ModelSpec, json.loads(json.dumps(to_mapping(changed.spec))))
    assert read == changed.spec
    rebuilt = TrainedNetwork(read, changed.weights).create()
    x = torch.rand(2, 2, *SIZES[spatial_dims])
    with torch.no_grad():
        logits = rebuilt(x)
    assert logits.shape == (2, 3, *(size // 2 for size in SIZES[spatial_dims]))
    assert torch.isfinite(logits).all()
    outputs = rebuilt.train().supervise(x)
    parts = (outputs.logits, *outputs.auxiliary, outputs.boundary)
    sum(part.square().mean() for part in parts).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in rebuilt.parameters())


@pytest.mark.parametrize(("block", "spatial_dims"), [("window", 2), ("reparam", 3), ("routed", 3)])
def test_what_went_through_all_tools_exports_and_does_the_same(block, spatial_dims):
    shared = "none" if block == "reparam" else "mlp"
    exchange = {"exchange_window": 4} if block == "reparam" else {}
    network = make_network(make_spec(block, spatial_dims, kv_heads=2, shared=shared, **exchange))
    network = merge_kv_heads(network)
    for part in PARTS[:-1]:
        importance = measure_importance(network, (), None, method="magnitude")
        network = shrink(network, importance, part=part, ratio=0.3, round_to=2)
    network = factorize(network, choose_ranks(network, keep_energy=0.8, round_to=2))
    assert len(network.spec.ranks) >= 3
    network = drop_block(network, 0, 0)
    network = recalibrate_norms(network, make_batches(network.spec))
    model = network.create()
    size = (13, 10, 8)[:spatial_dims]
    x = np.random.default_rng(0).random((1, 2, *size), dtype=np.float32)
    graph = trace_onnx(model, torch.from_numpy(x)).SerializeToString()
    check_parity(graph, model, inputs=[x], tolerance=EXACT_TOLERANCE)
    check_graph(graph, where="the graph")


@pytest.mark.parametrize("name", ["nano", "tiny"])
def test_every_group_of_a_named_network_shrinks_alone(name):
    network = make_named(name, 2)
    importance = measure_importance(network, (), None, method="magnitude")
    for group in list_groups(network):
        smaller = shrink(network, importance, part=group, ratio=0.5)
        assert count(smaller) < count(network), group
        smaller.create()
