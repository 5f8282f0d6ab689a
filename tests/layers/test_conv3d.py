import pytest
import torch
from torch import nn

from bedside.layers.conv import ConvNorm
from bedside.layers.conv3d import DepthwiseConv3d, PointwiseConv3d
from tolerances import BF16_RTOL, FLOAT64_ATOL

SIZES = ((5, 6, 7), (1, 4, 3), (2, 1, 5))


def make_pair(kind, kernel):
    """One of ours and torch's own with the same weights."""
    torch.manual_seed(0)
    if kind is PointwiseConv3d:
        ours, theirs = (c(4, 6, 1).double() for c in (kind, nn.Conv3d))
    else:
        ours, theirs = (
            c(6, 6, kernel, padding=(kernel - 1) // 2, groups=6, bias=False).double()
            for c in (kind, nn.Conv3d)
        )
    theirs.load_state_dict(ours.state_dict(), strict=True)
    return ours, theirs


def train(layer, x, dtype=torch.float64):
    """Output and all gradients, in float64."""
    x = x.to(dtype).to(memory_format=torch.channels_last_3d).requires_grad_()
    layer = layer.to(dtype)
    layer.zero_grad()
    y = layer(x)
    (y * torch.linspace(-1, 1, y.numel(), dtype=dtype).reshape(y.shape)).sum().backward()
    return [y, x.grad, *(p.grad for p in layer.parameters())]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("kind", "kernel"), [(PointwiseConv3d, 1), (DepthwiseConv3d, 1), (DepthwiseConv3d, 3)]
)
def test_outputs_and_gradients_are_those_of_torch(kind, kernel, size):
    ours, theirs = make_pair(kind, kernel)
    x = torch.randn(2, ours.in_channels, *size, dtype=torch.float64)
    for seen, expected in zip(train(ours, x), train(theirs, x), strict=True):
        assert torch.allclose(seen, expected, atol=FLOAT64_ATOL)


@pytest.mark.parametrize("size", SIZES)
def test_gradients_in_bf16_are_those_of_f64_but_for_rounding(size):
    ours, theirs = make_pair(DepthwiseConv3d, 3)
    x = torch.randn(2, 6, *size).bfloat16().double()
    theirs.weight.data = theirs.weight.data.bfloat16().double()
    expected = train(theirs, x)
    for seen, wanted in zip(train(ours, x, torch.bfloat16), expected, strict=True):
        assert (seen.double() - wanted).abs().max() <= BF16_RTOL * wanted.abs().max()


def test_mixed_precision_computes_in_bf16_and_gives_gradients_in_f32():
    layer = DepthwiseConv3d(4, 4, 3, padding=1, groups=4, bias=False)
    x = torch.randn(1, 4, 3, 4, 5, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()
    assert x.grad.dtype == layer.weight.grad.dtype == torch.float32
    assert layer.weight.grad.abs().sum() > 0


def test_voxels_stay_channels_last_all_the_way():
    """torch's own 1x1x1 convolution turns them around, and every layer behind pays."""
    x = torch.randn(2, 4, 5, 6, 7).to(memory_format=torch.channels_last_3d)
    block = nn.Sequential(
        ConvNorm(4, 8, spatial_dims=3), ConvNorm(8, 8, kernel=3, groups=8, spatial_dims=3)
    )
    for layer in block:
        x = layer(x)
        assert x.is_contiguous(memory_format=torch.channels_last_3d)
    assert isinstance(block[0][0], PointwiseConv3d)
    assert isinstance(block[1][0], DepthwiseConv3d)


def test_a_frozen_image_gets_no_gradient_and_the_weights_do():
    layer = DepthwiseConv3d(4, 4, 3, padding=1, groups=4, bias=False)
    layer(torch.randn(1, 4, 3, 4, 5)).sum().backward()
    assert layer.weight.grad.abs().sum() > 0
