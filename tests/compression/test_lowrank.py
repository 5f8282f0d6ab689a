"""Factors of full information are exact; of less, they keep what the inputs have."""

import dataclasses
import math

import pytest
import torch

from bedside.compression.input_statistics import measure_inputs
from bedside.compression.lowrank import factorize, list_candidates
from bedside.compression.prune import keep_units
from bedside.compression.slicing import multiply_out, norms_behind
from bedside.compression.spectra import factorable_weights, relative_macs
from bedside.errors import SpecError, UsageError
from bedside.models import TrainedNetwork
from compressed_networks import make_batches, make_images, make_network, make_spec, run

# Factors are kept in float32.
F32 = 1e-5


def make_low_rank(spec, path, ranks):
    """A network of which one convolution has these ranks, written as a whole."""
    network = make_network(spec)
    weight = network.weights[f"{path}.0.weight"]
    small = torch.randn(*ranks[::-1][:2], *weight.shape[2:]) if len(ranks) == 2 else None
    left = torch.randn(weight.shape[0], ranks[-1])
    right = torch.randn(ranks[0], weight.shape[1])
    if small is None:
        weight = (left @ right).reshape(weight.shape)
    else:
        weight = torch.einsum("or,rs...,si->oi...", left, small, right)
    weights = {**network.weights, f"{path}.0.weight": weight / weight.std() * 0.1}
    return TrainedNetwork(spec, weights)


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("measured", [False, True])
@pytest.mark.parametrize(
    ("path", "ranks"),
    [
        ("levels.1.0.expand", (5,)),
        ("levels.1.0.attention.project_in", (4,)),
        ("downs.1", (5, 6)),
        ("stem.1", (6, 4)),
        ("downs.0", (3, 16)),
    ],
)
def test_a_convolution_of_low_rank_is_factored_exactly(path, ranks, measured, spatial_dims):
    network = make_low_rank(make_spec("window", spatial_dims, shared="mlp"), path, ranks)
    inputs = measure_inputs(network, make_batches(network.spec, 1)) if measured else None
    factored = factorize(network, {path: ranks}, inputs)
    assert factored.spec.ranks == {path: ranks}
    x = make_images(network.spec)
    expected = run(network, x)
    assert (run(factored, x) - expected).abs().max() < F32 * expected.abs().max()


@pytest.mark.parametrize("path", ["levels.1.0.expand", "downs.1"])
def test_knowing_the_inputs_halves_the_error_where_they_are_few(path):
    """Channels in that hardly vary are not worth a rank."""
    network = make_network(make_spec())
    weights = dict(network.weights)
    producer = {"levels.1.0.expand": "levels.1.0.spatial", "downs.1": "levels.1.1.project"}[path]
    if path == "downs.1":
        for quiet in ("downs.0", "levels.1.0.attention.project_out", "levels.1.0.project",
                      "levels.1.1.attention.project_out"):  # fmt: skip
            weights[f"{quiet}.1.weight"] = weights[f"{quiet}.1.weight"].clone()
            weights[f"{quiet}.1.weight"][4:] *= 0.01
    weights[f"{producer}.1.weight"] = weights[f"{producer}.1.weight"].clone()
    weights[f"{producer}.1.weight"][4:] *= 0.01
    network = TrainedNetwork(network.spec, weights)
    batches = make_batches(network.spec)
    ranks = {path: (5,) if "expand" in path else (5, 12)}
    x = make_images(network.spec, 2)
    expected = run(network, x)
    errors = [
        float((run(factorize(network, ranks, inputs), x) - expected).square().mean())
        for inputs in (None, measure_inputs(network, batches))
    ]
    assert errors[1] < errors[0] / 4


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_a_lost_mean_is_given_back_to_every_norm_behind(spatial_dims):
    network = make_network(make_spec("window", spatial_dims, shared="both"))
    batches = make_batches(network.spec, 1)
    path = "levels.1.0.project"
    assert norms_behind(network.spec, path) == [f"{path}.1", "levels.1.1.project.1"]
    assert norms_behind(network.spec, "levels.1.0.spatial") == ["levels.1.0.spatial.1"]
    inputs = measure_inputs(network, batches)
    factored = factorize(network, {path: (2,)}, inputs)
    lost = network.weights[f"{path}.0.weight"] - multiply_out(factored.weights, path)
    shift = lost.flatten(1).double() @ inputs[path].mean
    assert shift.abs().max() > 1e-3
    for norm in norms_behind(network.spec, path):
        name = f"{norm}.running_mean"
        moved = (network.weights[name] - factored.weights[name]).double()
        assert torch.allclose(moved, shift, atol=1e-5)


def test_measured_moments_are_those_of_the_inputs():
    network = make_network(make_spec("window", shared="mlp"))
    batches = make_batches(network.spec, 2)
    inputs = measure_inputs(network, batches)
    heads = {"head", "boundary", "auxiliary.0", "auxiliary.1"}
    assert set(inputs) == set(factorable_weights(network)) | heads
    images = torch.cat([images for images, _ in batches]).transpose(0, 1).flatten(1).double()
    assert torch.allclose(inputs["stem.0"].mean, images.mean(dim=1), atol=1e-6)
    covariance = images.cov(correction=0)
    assert torch.allclose(inputs["stem.0"].covariance, covariance, atol=1e-6)
    factored = factorize(network, {"downs.0": (4, 8), "levels.1.0.expand": (4,)}, inputs)
    assert set(measure_inputs(factored, batches)) == set(inputs)
    with pytest.raises(UsageError, match="no batches"):
        measure_inputs(network, [])


def choose_ranks(network, **settings):
    return {each.path: each.ranks for each in list_candidates(network, **settings)}


def test_ranks_are_those_that_hold_the_energy_and_cost_less():
    network = make_low_rank(make_spec(channels=32), "levels.1.0.expand", (5,))
    network = TrainedNetwork(network.spec, network.weights)
    ranks = choose_ranks(network, keep_energy=0.999, round_to=1)
    assert ranks["levels.1.0.expand"] == (5,)
    assert choose_ranks(network, keep_energy=1.0, round_to=1) == {"levels.1.0.expand": (5,)}
    rounded = choose_ranks(network, keep_energy=0.999, paths=["levels.1.0.expand", "downs.0"])
    assert rounded["levels.1.0.expand"] == (8,)
    for candidate in list_candidates(network, keep_energy=0.7, round_to=4):
        assert candidate.relative_macs < 1
        assert candidate.parameters[1] < candidate.parameters[0]
        assert candidate.energy >= 0.7 - 1e-6
        found = factorize(network, {candidate.path: candidate.ranks})
        prefix = f"{candidate.path}.0."
        count = sum(t.numel() for name, t in found.weights.items() if name.startswith(prefix))
        assert count == candidate.parameters[1]


def test_strided_convolutions_count_what_comes_before_them_at_the_finer_grid():
    shape = (32, 16, 3, 3, 3)
    expected = (16 * 4 * 8 + 4 * 8 * 27 + 8 * 32) / math.prod(shape)
    assert relative_macs(shape, (4, 8), stride=2) == pytest.approx(expected)


def test_what_is_factored_can_be_factored_anew_and_pruned():
    network = make_network(make_spec())
    path = "levels.1.0.expand"
    once = factorize(network, {path: (12,), "downs.1": (12, 8)})
    twice = factorize(once, {path: (3,)})
    assert twice.spec.ranks == {"downs.1": (12, 8), path: (3,)}
    directly = factorize(network, {path: (3,)}).weights
    assert torch.allclose(
        multiply_out(twice.weights, path), multiply_out(directly, path), atol=1e-5
    )
    assert keep_units(twice, {"hidden.levels.1.0": range(3)}).spec.ranks == {"downs.1": (12, 8)}


def test_what_cannot_be_factored_is_said():
    network = make_network(make_spec())
    with pytest.raises(SpecError, match=r'ranks names "levels.1.0.spatial"'):
        factorize(network, {"levels.1.0.spatial": (3,)})
    with pytest.raises(SpecError, match="expected 1 to 15"):
        factorize(network, {"levels.1.0.expand": (16,)})
    with pytest.raises(SpecError, match='paths names "nowhere"'):
        choose_ranks(network, keep_energy=0.9, paths=["nowhere"])
    assert dataclasses.asdict(list_candidates(network, keep_energy=0.5)[0])["path"]
