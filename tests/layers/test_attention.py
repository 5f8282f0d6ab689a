"""Every mechanism in the table against plain dense attention, exported, and trained."""

import dataclasses

import attention_oracle
import numpy as np
import pytest
import torch

from bedside.errors import SpecError
from bedside.layers.attention import (
    MECHANISMS,
    Attention,
    Level,
    WindowExchange,
    attend,
    create_mechanism,
)
from bedside.layers.attention.routed import RoutedAttention
from bedside.spec import LevelSpec
from tolerances import FLOAT64_ATOL

SIZES = {2: ((16, 12), (9, 14), (3, 5)), 3: ((8, 8, 8), (5, 9, 3))}
BASE = LevelSpec(
    "window", channels=8, depth=1, num_heads=4, head_dim=4, window=4, halo=2, region=4, top_k=3,
    grid=3,
)  # fmt: skip
VARIANTS = {
    "plain": {"exchange": False},
    "exchange": {"exchange": True},
    "kv_heads": {"exchange": True, "kv_heads": 4},
    "scales": {"exchange": True, "window": (4, 2)},
    "scales_kv_heads": {"exchange": False, "window": (4, 2), "kv_heads": 2},
    "pooled_exchange": {"exchange": True, "grid": 2, "kv_heads": 2},
    "exchange_window": {"exchange_window": 4},
}
CASES = [
    pytest.param(name, variant, sizes, id=f"{name}-{variant}-{'x'.join(map(str, sizes))}")
    for name in MECHANISMS
    for variant in VARIANTS
    if variant != "exchange_window" or not MECHANISMS[name].windowed
    for spatial_dims in SIZES
    for sizes in SIZES[spatial_dims]
]


def make_level(name, variant="exchange"):
    return dataclasses.replace(BASE, block=name, **VARIANTS[variant])


def make_tokens(level, sizes, *, batch=1, seed=0):
    width = (level.num_heads + 2 * level.kv_heads) * level.head_dim
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, *sizes, width, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize(("name", "variant", "sizes"), CASES)
def test_a_mechanism_is_masked_dense_attention(name, variant, sizes):
    level = make_level(name, variant)
    tokens = make_tokens(level, sizes, batch=2)
    found = create_mechanism(level)(tokens).numpy()
    reference = getattr(attention_oracle, name)
    for image, read in zip(tokens.numpy(), found, strict=True):
        expected = reference(image.reshape(-1, image.shape[-1]), sizes, level)
        if level.exchange_window:
            expected = expected + attention_oracle.exchange(
                image.reshape(-1, image.shape[-1]), sizes, level, level.exchange_window
            )
        assert np.allclose(read.reshape(expected.shape), expected, atol=FLOAT64_ATOL)


def test_every_mechanism_has_a_reference():
    assert all(callable(getattr(attention_oracle, name, None)) for name in MECHANISMS)


def test_folded_heads_give_what_separate_heads_give():
    rng = np.random.default_rng(0)
    queries, keys, values = (rng.standard_normal(shape) for shape in ((6, 12), (9, 4), (9, 4)))
    found = attend(*(torch.from_numpy(a)[None] for a in (queries, keys, values)))[0].numpy()
    for head in range(3):
        part = slice(4 * head, 4 * head + 4)
        expected = attention_oracle.attend_densely(
            queries[:, part], keys, values, weights=np.ones((6, 9))
        )
        assert np.allclose(found[:, part], expected, atol=FLOAT64_ATOL)


@pytest.mark.parametrize("name", ["window", "overlap", "routed"])
def test_only_the_exchange_carries_what_local_attention_cannot(name):
    """Tokens far from a change, whose windows (or chosen regions) leave it out, do not feel it."""
    for variant in ("plain", "exchange"):
        level = make_level(name, variant)
        tokens = make_tokens(level, (16, 16))
        changed = tokens.clone()
        changed[:, :4, :4, -level.head_dim :] += 1.0  # values only: routing stays as it is
        mechanism = create_mechanism(level)
        moved = (mechanism(changed) - mechanism(tokens)).abs().amax(dim=(0, 3))
        assert bool((moved < 1e-9).any()) == (variant == "plain")


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("name", MECHANISMS)
def test_every_weight_of_attention_learns(name, spatial_dims):
    torch.manual_seed(0)
    layer = Attention(make_level(name), spatial_dims=spatial_dims)
    layer(torch.randn(2, 8, *SIZES[spatial_dims][0])).square().mean().backward()
    for parameter in layer.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
        assert parameter.grad.abs().sum() > 0


def test_the_choice_of_regions_learns_from_the_loss():
    """The gate is the only way from means to the loss once the chosen keys are held still."""
    level = make_level("routed", "plain")
    mechanism = create_mechanism(level)
    assert isinstance(mechanism, RoutedAttention)
    means = torch.randn(1, 12, 24, dtype=torch.float64, requires_grad=True)
    _, gate = mechanism.route(means)
    gate.square().sum().backward()
    assert means.grad.abs().sum() > 0


def replace_gates(mechanism):
    """The same mechanism with all gates open."""

    class Ungated(RoutedAttention):
        def route(self, means):
            chosen, gate = super().route(means)
            return chosen, torch.ones_like(gate)

    return Ungated(**vars(mechanism))


def test_nothing_jumps_where_two_regions_change_places():
    """Halve the way between two inputs, always keeping a change of regions inside."""
    level = make_level("routed", "plain")
    mechanism = create_mechanism(level)
    start, end = (make_tokens(level, (16, 16), seed=seed) for seed in (0, 1))
    for tokens in (start, end):
        tokens[..., : level.num_heads * level.head_dim] *= level.head_dim**-0.5

    def choose(tokens):
        means = tokens.reshape(1, 4, 4, 4, 4, -1).mean(dim=(2, 4)).flatten(1, 2)
        return mechanism.route(means)[0].sort(dim=-1).values

    for _ in range(45):
        middle = (start + end) / 2
        start, end = (start, middle) if (choose(start) != choose(middle)).any() else (middle, end)
    assert (choose(start) != choose(end)).any()
    assert (start - end).abs().max() < 1e-12
    # What a region at the floor weighs; without gates, one of three regions would be another.
    assert (mechanism(start) - mechanism(end)).abs().max() < 0.05
    ungated = replace_gates(mechanism)
    assert (ungated(start) - ungated(end)).abs().max() > 0.2


@pytest.mark.parametrize("shared", ["attention", "mlp", "both"])
def test_blocks_of_a_level_share_weights_and_keep_their_own_norms(shared):
    def count(setting):
        level = dataclasses.replace(make_level("window"), depth=3, shared=setting)
        return sum(p.numel() for p in Level(level).parameters())

    level = dataclasses.replace(make_level("window"), depth=3, shared=shared)
    saved = {"attention": 2 * (8 * 24 + 16 * 8), "mlp": 2 * (8 * 16 + 16 * 8)}
    expected = sum(saved.values()) if shared == "both" else saved[shared]
    assert count("none") - count(shared) == expected
    torch.manual_seed(0)
    module = Level(level).eval()
    names = list(module.state_dict())
    assert len({module.state_dict()[n].data_ptr() for n in names if "weight" in n}) == len(
        [n for n in names if "weight" in n]
    )
    x = torch.randn(1, 8, 8, 8)
    before = module(x)
    with torch.no_grad():
        shared_with = module[0].attention.project_in if shared != "mlp" else module[0].expand
        shared_with[0].weight.mul_(2.0)
        difference = module[1](x) - module[1].eval()(x)
        assert not difference.any()
        assert not torch.equal(module(x), before)
    other = module[2].attention.project_in if shared != "mlp" else module[2].expand
    with torch.no_grad():
        assert torch.equal(other[0](torch.ones(1, 8, 1, 1)), shared_with[0](torch.ones(1, 8, 1, 1)))


@pytest.mark.parametrize("name", [name for name, row in MECHANISMS.items() if row.windowed])
def test_a_level_with_windows_of_its_own_takes_no_others_for_the_exchange(name):
    with pytest.raises(SpecError, match=r"exchange_window is 4.*set exchange"):
        dataclasses.replace(make_level(name), exchange_window=4)


@pytest.mark.parametrize("sizes", [(16, 12), (9, 14), (5, 9, 3)])
def test_a_level_of_convolutions_exchanges_what_its_windows_hold_on_average(sizes):
    """Against means, projections and dense attention written out, window by window."""
    level = dataclasses.replace(BASE, block="conv", exchange_window=4, grid=2)
    torch.manual_seed(0)
    layer = WindowExchange(level, spatial_dims=len(sizes)).double().eval()
    x = torch.randn(2, 8, *sizes, dtype=torch.float64)

    def project(part, rows):
        weight = part[0].weight.detach().flatten(1).numpy()
        scale = part.norm.weight.detach().numpy() / np.sqrt(1 + part.norm.eps)
        return rows @ weight.T * scale

    found = layer(x).detach().numpy()
    for image, seen in zip(x.numpy(), found, strict=True):
        rows = image.reshape(8, -1).T
        # Projecting is linear: means of projected tokens are projected means.
        read = attention_oracle.exchange(project(layer.project_in, rows), sizes, level, 4)
        expected = rows + project(layer.project_out, read)
        assert np.allclose(seen.reshape(8, -1).T, expected, atol=FLOAT64_ATOL)


def test_routing_is_the_same_every_time():
    level = make_level("routed", "exchange")
    tokens = make_tokens(level, (16, 16)).float()
    first = create_mechanism(level)(tokens)
    assert all(torch.equal(create_mechanism(level)(tokens), first) for _ in range(3))


def test_the_router_learns_end_to_end_from_the_loss():
    """Stop the gradient at the gate, and the projections that route learn something else."""
    level = make_level("routed", "plain")
    tokens = make_tokens(level, (16, 16)).requires_grad_()
    mechanism = create_mechanism(level)
    assert isinstance(mechanism, RoutedAttention)

    class Deaf(RoutedAttention):
        def route(self, means):
            chosen, gate = super().route(means)
            return chosen, gate.detach()

    gradients = [
        torch.autograd.grad(each(tokens).square().sum(), tokens)[0]
        for each in (mechanism, Deaf(**vars(mechanism)))
    ]
    assert (gradients[0] - gradients[1]).abs().max() > 1e-3
