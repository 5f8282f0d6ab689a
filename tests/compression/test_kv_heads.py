"""Heads that are images of one another merge exactly; blocks that are alike tie exactly."""

import pytest
import torch

from bedside.compression.affine import Affine, concatenate, read_affine, write_affine
from bedside.compression.input_statistics import measure_inputs, white
from bedside.compression.kv_heads import merge_kv_heads
from bedside.compression.lowrank import factorize
from bedside.errors import UsageError
from bedside.models import TrainedNetwork
from compressed_networks import (
    MECHANISMS,
    make_batches,
    make_images,
    make_network,
    make_spec,
    run,
)
from tolerances import ROUTED_MERGE_RTOL

# The merged projections are kept in float32; softmax and norms amplify that a little.
F32 = 2e-5
D, KV, HEADS = 4, 2, 4


def make_images_of_one_head(block, spatial_dims, **changes):
    """A network whose second level has heads of keys and values that are turned copies."""
    spec = make_spec(block, spatial_dims, num_heads=HEADS, head_dim=D, kv_heads=KV, **changes)
    network = make_network(spec)
    weights = dict(network.weights)
    for number in range(2):
        path = f"levels.1.{number}.attention.project_in"
        affine = read_affine(weights, path)
        parts = [affine.rows(0, HEADS * D)]
        for begin in (HEADS * D, (HEADS + KV) * D):
            first = affine.rows(begin, begin + D)
            turn = 1.5 * torch.linalg.qr(torch.randn(D, D, dtype=torch.float64))[0]
            # A number added to keys adds to all scores of a query alike, and is as nothing.
            shift = 0.3 if begin == HEADS * D else 0.0
            parts += [first, Affine(turn @ first.matrix, turn @ first.bias + shift)]
        weights = write_affine(weights, path, concatenate(parts), white(16))
    return TrainedNetwork(spec, weights)


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("block", [name for name in MECHANISMS if name != "linear"])
def test_heads_that_are_turned_copies_merge_exactly(block, spatial_dims):
    network = make_images_of_one_head(block, spatial_dims)
    inputs = measure_inputs(network, make_batches(network.spec))
    merged = merge_kv_heads(network, inputs)
    assert merged.spec.levels[1].kv_heads == 1
    assert len(merged.weights["levels.1.0.attention.project_in.1.weight"]) == (HEADS + 2) * D
    x = make_images(network.spec)
    expected = run(network, x)
    error = (run(merged, x) - expected).abs().max() / expected.abs().max()
    assert error < (ROUTED_MERGE_RTOL if block == "routed" else F32)


@pytest.mark.parametrize("block", MECHANISMS)
def test_merged_heads_are_nearer_than_plain_means(block):
    """The usual way, a mean over heads, stands beside it on a network of unlike heads."""
    spec = make_spec(block, num_heads=HEADS, head_dim=D, kv_heads=KV)
    network = make_network(spec)
    inputs = measure_inputs(network, make_batches(spec))
    merged = merge_kv_heads(network, inputs)
    weights = dict(network.weights)
    mean = torch.eye(D, dtype=torch.float64).repeat(1, KV) / KV
    for number in range(2):
        path = f"levels.1.{number}.attention.project_in"
        affine = read_affine(weights, path)
        cuts = [0, HEADS * D, (HEADS + KV) * D, (HEADS + 2 * KV) * D]
        parts = [affine.rows(0, cuts[1])]
        parts += [affine.rows(*cuts[n : n + 2]).then(mean) for n in (1, 2)]
        weights = write_affine(weights, path, concatenate(parts), inputs[path])
    plain = TrainedNetwork(merged.spec, weights)
    x = make_images(spec, 2)
    expected = run(network, x)
    errors = [float((run(n, x) - expected).square().mean()) for n in (merged, plain)]
    assert errors[0] < errors[1] * 0.9


def test_norms_of_merged_heads_have_the_statistics_of_their_input():
    network = make_network(make_spec(num_heads=HEADS, head_dim=D, kv_heads=KV, depth=1))
    batches = make_batches(network.spec, 1)
    model = merge_kv_heads(network, measure_inputs(network, batches)).create()
    layer, seen = model.levels[1][0].attention.project_in, []
    layer[0].register_forward_hook(lambda module, args, result: seen.append(result))
    with torch.no_grad():
        model(batches[0][0])
    made = seen[0].transpose(0, 1).flatten(1)
    assert torch.allclose(layer[1].running_mean, made.mean(dim=1), atol=1e-4)
    assert torch.allclose(layer[1].running_var, made.var(dim=1, correction=0), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("block", ["conv", "window"])
def test_an_exchange_and_factored_projections_merge_too(block):
    exchange = {"exchange_window": 4} if block == "conv" else {}
    spec = make_spec(block, num_heads=4, head_dim=D, kv_heads=2, **exchange)
    network = make_network(spec)
    name = "levels.1.2.project_in" if block == "conv" else "levels.1.0.attention.project_in"
    network = factorize(network, {name: (12,)})
    merged = merge_kv_heads(network)
    assert not merged.spec.ranks
    assert len(merged.weights[f"{name}.1.weight"]) == (4 + 2) * D
    assert torch.isfinite(run(merged, make_images(spec))).all()


def test_what_cannot_be_shared_is_said():
    network = make_network(make_spec(kv_heads=2, shared="attention"))
    with pytest.raises(UsageError, match="merge the heads of keys first"):
        merge_kv_heads(network)
    with pytest.raises(UsageError, match="one head of keys and values already"):
        merge_kv_heads(make_network(make_spec()))
