import pytest
import torch
from torch import nn

from bedside.errors import SpecError
from bedside.layers.conv import CONVOLUTIONS, ConvNorm, InvertedResidual
from bedside.layers.factored import FactoredConv, factor_convolutions, list_factorable


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("stride", [1, 2])
def test_the_product_of_the_factors_is_one_convolution(spatial_dims, stride):
    torch.manual_seed(0)
    whole = CONVOLUTIONS[spatial_dims](6, 9, 3, stride=stride, padding=1, bias=False)
    factored = FactoredConv(whole, (4, 5)).double()
    narrow, core, widen = (part.weight.flatten(2) for part in factored)
    product = torch.einsum("or,rst,si->oit", widen[..., 0], core, narrow[..., 0])
    whole.double().weight.data.copy_(product.reshape(whole.weight.shape))
    x = torch.rand(2, 6, *[7] * spatial_dims, dtype=torch.float64)
    assert torch.allclose(factored(x), whole(x), atol=1e-12)


def test_a_side_of_full_rank_has_no_factor():
    whole = nn.Conv2d(1, 16, 3, padding=1, bias=False)
    assert [name for name, _ in FactoredConv(whole, (1, 4)).named_children()] == ["core", "widen"]


@pytest.mark.parametrize(
    ("path", "ranks", "message"),
    [
        ("expand", (6,), "expand: ranks .* expected 1 to 5"),
        ("expand", (3, 3), "expected one rank for 1x1"),
        ("spatial", (3, 3), 'ranks names "spatial", .* Did you mean'),
        ("0.expand", (3,), 'Did you mean "expand"'),
    ],
)
def test_ranks_that_save_nothing_or_belong_to_nothing_are_refused(path, ranks, message):
    with pytest.raises(SpecError, match=message):
        factor_convolutions(InvertedResidual(6), {path: ranks})


def test_convolutions_of_several_taps_need_one_rank_below_their_size():
    layer = nn.ModuleDict({"down": ConvNorm(6, 9, kernel=3, stride=2)})
    assert list(list_factorable(layer)) == ["down"]
    with pytest.raises(SpecError, match="one of them below"):
        factor_convolutions(layer, {"down": (6, 9)})
    factor_convolutions(layer, {"down": (6, 3)})
    assert layer["down"](torch.rand(1, 6, 9, 8)).shape == (1, 9, 5, 4)
