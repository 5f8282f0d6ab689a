"""Pruned networks do what the whole ones do with the same channels at zero, in every part."""

import dataclasses

import pytest
import torch

from bedside.compression.groups import find_group, list_groups
from bedside.compression.importance import Importance, measure_importance
from bedside.compression.input_statistics import measure_inputs
from bedside.compression.lowbit import choose_bits, round_weights
from bedside.compression.prune import drop_block, keep_units, shrink
from bedside.errors import UsageError
from bedside.models import TrainedNetwork, create
from compressed_networks import (
    BLOCKS,
    SIZES,
    clear,
    make_batches,
    make_images,
    make_network,
    make_spec,
    run,
)
from tolerances import ROUTED_HEADS_RTOL

# Sums of the same products in another order, in float64, of numbers of size 1.
EXACT = 1e-9
# A product of factors is kept in float32: 6e-8 of itself.
MULTIPLIED_OUT = 1e-6


def halve(group):
    """Keep every other unit of each lot, and let the first go."""
    size = group.units // group.divisor
    return [
        lot * size + n for lot in range(group.divisor) for n in range(size) if n % 2 or size == 1
    ]


def assert_same(network, name, *, tolerance=EXACT):
    group, x = find_group(network, name), make_images(network.spec)
    kept = halve(group)
    gone = [unit for unit in range(group.units) if unit not in kept]
    assert gone
    pruned = keep_units(network, {name: kept})
    expected = run(clear(network, group, gone), x)
    error = (run(pruned, x) - expected).abs().max() / expected.abs().max()
    assert error < tolerance
    assert len(list_groups(pruned)[name].channels(torch.arange(1))) == group.width
    assert list_groups(pruned)[name].units == len(kept)
    return pruned


@pytest.mark.parametrize("spatial_dims", SIZES)
@pytest.mark.parametrize("block", BLOCKS)
def test_every_part_without_what_is_zero_is_the_same_function(block, spatial_dims):
    network = make_network(make_spec(block, spatial_dims))
    parts = [name for name in list_groups(network) if not name.startswith("blocks")]
    assert len(parts) >= 12
    for name in parts:
        # A head of zeros is one more that the mean over heads is taken of: the regions'
        # affinity shrinks by a factor, and the floor of gates weighs a little more.
        routed = block == "routed" and name.startswith("heads.levels.1")
        assert_same(network, name, tolerance=ROUTED_HEADS_RTOL if routed else EXACT)


@pytest.mark.parametrize("spatial_dims", SIZES)
@pytest.mark.parametrize("shared", ["attention", "mlp", "both"])
def test_blocks_that_share_are_pruned_together(shared, spatial_dims):
    network = make_network(make_spec("window", spatial_dims, shared=shared))
    for name in ("hidden.levels.1.0", "heads.levels.1.0", "channels.levels.1"):
        assert_same(network, name)
    assert ("heads.levels.1.1" in list_groups(network)) == (shared == "mlp")


@pytest.mark.parametrize(("kv_heads", "window"), [(2, 4), (1, (2, 4)), (4, (2, 4)), (2, (4, 2))])
def test_heads_stay_in_equal_numbers_with_each_head_of_keys_and_each_window(kv_heads, window):
    network = make_network(make_spec(num_heads=8, kv_heads=kv_heads, window=window))
    assert_same(network, "heads.levels.1.0")
    with pytest.raises(UsageError, match="equally many of each"):
        keep_units(network, {"heads.levels.1.0": [0, 1, 2, 3]})


@pytest.mark.parametrize("spatial_dims", SIZES)
def test_factored_convolutions_are_pruned_and_put_together_where_the_rank_is_full(spatial_dims):
    spec = dataclasses.replace(
        make_spec("window", spatial_dims),
        ranks={
            "stem.1": (4, 5), "downs.0": (6, 12), "downs.1": (16, 5), "levels.1.0.expand": (6,),
            "levels.1.1.attention.project_in": (9,), "fusions.0.project": (3,),
        },
    )  # fmt: skip
    network = make_network(spec)
    narrowed = assert_same(network, "channels.levels.1", tolerance=MULTIPLIED_OUT)
    assert narrowed.spec.ranks == {
        "stem.1": (4, 5), "downs.0": (6, 8), "downs.1": (8, 5), "levels.1.0.expand": (6,),
        "fusions.0.project": (3,),
    }  # fmt: skip
    assert "downs.1" not in keep_units(narrowed, {"channels.levels.2": [3, 4, 5, 7]}).spec.ranks
    for name in ("channels.levels.0", "stem", "decoder", "hidden.levels.1.0", "heads.levels.1.1"):
        assert_same(network, name, tolerance=MULTIPLIED_OUT)


@pytest.mark.parametrize("shared", ["none", "attention", "mlp", "both"])
@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_dropped_block_is_one_that_adds_nothing(shared, index):
    spec = make_spec("window", depth=3, shared=shared)
    owners = {part: [0] if shared in (part, "both") else [0, 1, 2] for part in ("attention", "mlp")}
    hidden = {f"levels.1.{n}": 20 + n for n in owners["mlp"]}
    heads = {f"levels.1.{n}": 2 + n for n in owners["attention"]}
    network = make_network(dataclasses.replace(spec, hidden=hidden, heads=heads))
    silent = {name: tensor.clone() for name, tensor in network.weights.items()}
    for update in ("attention.project_out", "project"):
        for tensor in ("weight", "bias"):
            silent[f"levels.1.{index}.{update}.1.{tensor}"][:] = 0
    x = make_images(spec)
    dropped = drop_block(network, 1, index)
    expected = run(dataclasses.replace(network, weights=silent), x)
    assert torch.allclose(run(dropped, x), expected, atol=EXACT)
    assert dropped.spec.levels[1].depth == 2


def test_a_level_may_lose_all_its_blocks_and_its_exchange():
    network = make_network(make_spec("conv", depth=1))
    bare = drop_block(drop_block(drop_block(network, 1, 0), 0, 1), 0, 0)
    assert [level.depth for level in bare.spec.levels] == [0, 0, 1]
    assert bare.spec.levels[0].exchange_window == 0
    x = make_images(bare.spec)
    assert bare.create()(x).shape == network.create()(x).shape
    with pytest.raises(UsageError, match="no block 0 in level 0; it has 0 blocks"):
        drop_block(bare, 0, 0)


def test_shrinking_keeps_the_most_important_and_a_width_that_kernels_like():
    network = make_network(make_spec("window", channels=24))
    scores = {n: torch.arange(g.units).float() for n, g in list_groups(network).items()}
    importance = Importance("made up", scores)
    smaller = shrink(network, importance, part="hidden.levels.1.0", ratio=0.3)
    assert smaller.spec.hidden == {"levels.1.0": 32}
    name = "levels.1.0.project.0.weight"
    assert torch.equal(smaller.weights[name], network.weights[name][:, 16:])
    every = shrink(network, importance, part="hidden", ratio=0.99, round_to=16)
    assert set(every.spec.hidden.values()) == {16}
    assert shrink(network, importance, part="decoder", width=3).spec.decoder_channels == 3
    assert shrink(network, importance, part="heads.levels.1.1", ratio=0.5).spec.heads == {
        "levels.1.1": 2
    }
    last = shrink(network, importance, part="blocks.levels.1", width=1)
    name = "levels.1.{}.expand.0.weight"
    assert torch.equal(last.weights[name.format(0)], network.weights[name.format(1)])
    for part in ("stem", "channels"):
        network = shrink(network, importance, part=part, ratio=0.5, round_to=4)
    assert [level.channels for level in network.spec.levels] == [4, 12, 8]
    assert create(network.spec) is not None


def test_what_cannot_be_pruned_is_said():
    network = make_network(make_spec())
    importance = measure_importance(network, (), None, method="magnitude")
    smaller = keep_units(network, {"hidden.levels.1.0": range(8)})
    with pytest.raises(UsageError, match="has 8 units, and 32 of them have been measured"):
        shrink(smaller, importance, part="hidden", ratio=0.5)
    with pytest.raises(UsageError, match=r'no part "hiden"; choose one of hidden.levels.0.0'):
        shrink(network, importance, part="hiden", ratio=0.5)
    with pytest.raises(UsageError, match="either ratio"):
        shrink(network, importance, part="hidden")
    with pytest.raises(UsageError, match=r"ratio is 1.0; expected at least 0 and below 1"):
        shrink(network, importance, part="hidden", ratio=1.0)
    with pytest.raises(UsageError, match=r'no group "hidden.levels.9.0"'):
        keep_units(network, {"hidden.levels.9.0": [0]})
    for kept in ([], [0, 0], [32], [-1]):
        with pytest.raises(UsageError, match="expected at least one of 0 to 31, each once"):
            keep_units(network, {"hidden.levels.1.0": kept})


@pytest.mark.parametrize("spatial_dims", SIZES)
@pytest.mark.parametrize("shared", ["none", "both"])
def test_channels_that_follow_from_others_are_made_up_for(shared, spatial_dims):
    """Every second unit is a linear image of the others: with inputs, nothing is lost."""
    network = make_network(make_spec("window", spatial_dims, shared=shared))
    x = make_images(network.spec)
    for name in ("hidden.levels.1.0", "stem", "hidden.fusions.0", "heads.levels.1.0"):
        group = find_group(network, name)
        kept, gone = torch.arange(0, group.units, 2), torch.arange(1, group.units, 2)
        twins = dict(network.weights)
        # What makes a unit makes its twin as well; heads read with the same queries.
        for path in group.outs:
            for tensor in [n for n in twins if n.startswith(f"{path}.") and "tracked" not in n]:
                twins[tensor] = twins[tensor].clone()
                twins[tensor][group.channels(gone)] = twins[tensor][group.channels(kept)]
        twin = TrainedNetwork(network.spec, twins)
        inputs = measure_inputs(twin, make_batches(network.spec))
        expected = run(twin, x)
        errors = [
            float((run(keep_units(twin, {name: kept}, known), x) - expected).abs().max())
            for known in (None, inputs)
        ]
        assert errors[1] < 1e-2 * errors[0], name


@pytest.mark.parametrize("spatial_dims", SIZES)
@pytest.mark.parametrize("ranks", [{}, {"downs.0": (6, 12), "laterals.1": (5,)}])
def test_knowing_the_inputs_makes_every_part_lose_less(ranks, spatial_dims):
    network = make_network(dataclasses.replace(make_spec("reparam", spatial_dims), ranks=ranks))
    batches = make_batches(network.spec, 1)
    inputs, x = measure_inputs(network, batches), batches[0][0]
    importance = measure_importance(network, (), None, method="random")
    expected = run(network, x)
    for part in ("hidden", "channels", "decoder", "stem"):
        errors = [
            float((run(smaller, x) - expected).square().mean())
            for smaller in (
                shrink(network, known, part=part, ratio=0.3, round_to=2)
                for known in (importance, dataclasses.replace(importance, inputs=inputs))
            )
        ]
        assert errors[1] < errors[0], part


def test_inputs_of_another_network_are_refused():
    network = make_network(make_spec())
    inputs = measure_inputs(network, make_batches(network.spec))
    smaller = keep_units(network, {"hidden.levels.1.0": range(8)}, inputs)
    with pytest.raises(UsageError, match=r"reads 8 channels, .* when there were 32"):
        keep_units(smaller, {"hidden.levels.1.0": range(4)}, inputs)


def test_pruning_leaves_the_network_that_it_was_given():
    network = make_network(make_spec())
    before = {name: tensor.clone() for name, tensor in network.weights.items()}
    keep_units(drop_block(network, 1, 0), {"channels.levels.1": [0, 3]})
    assert all(torch.equal(before[name], tensor) for name, tensor in network.weights.items())


@pytest.mark.parametrize("shared", ["none", "both"])
def test_bits_go_with_the_blocks_that_they_are_of(shared):
    spec = make_spec("window", shared=shared)
    bits = choose_bits(spec, bits=4)
    network = round_weights(make_network(spec), bits)
    dropped = drop_block(network, 1, 0)
    assert dropped.spec.bits == choose_bits(dropped.spec, bits=4)
    dropped.create()
