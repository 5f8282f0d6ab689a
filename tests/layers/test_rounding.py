"""Weights of few bits: on their grid, learned as if they were not, named as they were."""

import copy

import pytest
import torch

from bedside.errors import SpecError
from bedside.layers.rounding import attach_bits, list_convolutions, round_to_bits, round_weights
from bedside.models import create
from bedside.spec import LevelSpec, ModelSpec
from bedside.spec.model import BITS

LEVELS = {8: 255, 4: 15, 2: 4, 1: 2}


def make_spec(block="window", **changes) -> ModelSpec:
    level = LevelSpec(block, 16, 2, num_heads=2, head_dim=8, window=4, **changes)
    return ModelSpec("hybrid", 1, 2, (level,), stem_channels=8, decoder_channels=8, stem_stride=2)


@pytest.mark.parametrize("bits", BITS)
def test_each_channel_has_no_more_levels_than_its_bits_say(bits):
    torch.manual_seed(0)
    rounded = round_weights(torch.randn(6, 20, 3, 3) * torch.rand(6, 1, 1, 1), bits)
    for channel in rounded.flatten(1):
        scale = channel.abs().max() / {8: 127, 4: 7, 2: 3, 1: 1}[bits]
        integers = (channel / scale).round()
        assert torch.equal(integers * scale, channel)
        assert len(integers.unique()) <= LEVELS[bits]


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("size", [1.0, 1e-6, 1e4])
def test_what_is_rounded_stays_as_it_is_when_rounded_again(bits, size):
    torch.manual_seed(1)
    for shape in ((50, 31), (7, 1), (20, 5, 3, 3)):
        once = round_weights(torch.randn(shape) * size, bits)
        assert torch.equal(round_weights(once, bits), once)


def test_more_bits_are_nearer_and_the_best_scale_beats_the_usual_one():
    torch.manual_seed(2)
    weight = torch.randn(8, 200)
    errors = [float((round_weights(weight, bits) - weight).square().mean()) for bits in BITS]
    assert errors == sorted(errors)
    scale = weight.abs().amax(1, keepdim=True) / 7
    plain = (weight / scale).round() * scale
    assert errors[1] < 0.9 * float((plain - weight).square().mean())


def test_a_channel_of_zeros_stays_zero_where_there_is_a_zero():
    weight = torch.zeros(2, 5)
    weight[1] = 0.5
    for bits in (8, 4, 2):
        assert torch.equal(round_weights(weight, bits)[0], weight[0])
        assert torch.isfinite(round_weights(weight, bits)).all()


@pytest.mark.parametrize("bits", BITS)
def test_gradients_go_through_and_state_keeps_its_names_and_values(bits):
    torch.manual_seed(0)
    model = create(make_spec())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    attach_bits(model, {"levels.0.0.expand": bits, "head": bits})
    after = model.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    model(torch.rand(2, 1, 16, 16)).square().mean().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())
    assert torch.equal(model.head.weight, round_weights(model.state_dict()["head.weight"], bits))


def test_a_copy_rounds_too_and_settling_leaves_plain_convolutions():
    torch.manual_seed(0)
    model = attach_bits(create(make_spec()), {"levels.0.1.expand": 4}).eval()
    other = copy.deepcopy(model)
    x = torch.rand(1, 1, 16, 16)
    with torch.no_grad():
        expected = model(x)
        assert torch.equal(other(x), expected)
        round_to_bits(other)
        assert torch.equal(other(x), expected)
    assert type(other.levels[0][1].expand[0]) is torch.nn.Conv2d
    assert type(model.levels[0][1].expand[0]) is not torch.nn.Conv2d


def test_a_path_that_is_no_convolution_is_refused():
    for path in ("levels.0.0", "levels.0.0.expnad", "levels.0.0.expand.1", ""):
        with pytest.raises(SpecError, match="no convolution that can have few"):
            attach_bits(create(make_spec()), {path: 4})


def test_borrowed_convolutions_have_the_bits_of_their_lender():
    model = create(make_spec(shared="both"))
    paths = dict(list_convolutions(model))
    assert "levels.0.0.expand" in paths
    assert "levels.0.1.expand" not in paths
    attach_bits(model, {"levels.0.0.expand": 1})
    shared_with = model.levels[0][1].expand[0].shared_with
    assert len(shared_with.weight[0].unique()) == 2


def test_parallel_branches_are_left_alone():
    model = create(make_spec("reparam"))
    paths = dict(list_convolutions(model))
    assert "levels.0.0.expand" in paths
    assert not [path for path in paths if "spatial" in path and path.startswith("levels")]


def test_weights_that_change_are_rounded_anew():
    model = attach_bits(create(make_spec()), {"head": 4}).eval()
    x = torch.rand(1, 1, 16, 16)
    with torch.no_grad():
        before = model(x)
        assert torch.equal(model(x), before)
        model.load_state_dict({n: t * 1.5 for n, t in model.state_dict().items()})
        assert torch.equal(model.head.weight, round_weights(model.state_dict()["head.weight"], 4))
        model.head._parameters["weight"].add_(torch.randn(model.head.weight.shape))
        assert torch.equal(model.head.weight, round_weights(model.state_dict()["head.weight"], 4))
        attach_bits(model, {"head": 1})
        assert len(model.head.weight[0].unique()) == 2
