import pytest
import torch

from bedside.layers.conv import BranchedConvNorm, InvertedResidual, fold_branches
from bedside.layers.shuffle import shuffle


def make_block(spatial_dims):
    """A branched block whose norms have statistics and weights that are not the fresh ones."""
    torch.manual_seed(0)
    block = InvertedResidual(6, branched=True, spatial_dims=spatial_dims).double()
    for module in block.modules():
        if isinstance(module, torch.nn.BatchNorm2d | torch.nn.BatchNorm3d):
            torch.nn.init.normal_(module.weight)
            torch.nn.init.normal_(module.bias)
    for _ in range(5):
        block(torch.randn(4, 6, *[8] * spatial_dims, dtype=torch.float64))
    return block.eval()


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_folded_branches_do_what_parallel_ones_did(spatial_dims):
    block = make_block(spatial_dims)
    x = torch.randn(2, 6, *[7] * spatial_dims, dtype=torch.float64)
    before = block(x)
    folded = fold_branches(block)
    assert not any(isinstance(module, BranchedConvNorm) for module in folded.modules())
    assert torch.allclose(folded(x), before, atol=1e-12)


def test_folding_leaves_one_kernel_of_weights():
    block = BranchedConvNorm(6, branches=3).eval()
    assert sum(p.numel() for p in block.fold().parameters()) == 6 * 9 + 6


@pytest.mark.parametrize("factor", [2, 4])
def test_shuffling_in_three_axes_puts_each_channel_in_its_place(factor):
    size = (2, 3, 4)
    x = torch.arange(2 * 5 * factor**3 * 24.0).reshape(2, 5 * factor**3, *size)
    found = shuffle(x, factor)
    cells = x.reshape(2, 5, factor, factor, factor, *size)
    expected = cells.permute(0, 1, 5, 2, 6, 3, 7, 4).reshape(found.shape)
    assert torch.equal(found, expected)


def test_shuffling_in_two_axes_is_the_same_rule():
    x = torch.rand(1, 8, 3, 4)
    flat = x.reshape(1, 2, 2, 2, 3, 4).permute(0, 1, 4, 2, 5, 3).reshape(1, 2, 6, 8)
    assert torch.equal(shuffle(x, 2), flat)
