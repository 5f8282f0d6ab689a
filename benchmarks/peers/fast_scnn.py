"""Fast-SCNN, written here after its paper.

Source: Poudel, Liwicki and Cipolla, Fast-SCNN, BMVC 2019, arXiv:1902.04502.
"""

import math

import torch
from torch import nn
from torch.nn import functional

from peers.blocks import conv_norm

_EXPANSION = 6
# Channels of the three groups of bottlenecks, and the stride of each group's first.
_GROUPS = ((64, 2), (96, 2), (128, 1))
_BLOCKS_A_GROUP = 3
_BINS = (1, 2, 3, 6)
_STRIDE = 32


class FastSCNN(nn.Module):
    """Learning to downsample, a global extractor at stride 32, a fusion at stride 8.

    Without the paper's auxiliary head, which only its training has. Logits at stride 8 are
    enlarged to full size, as there.

    Args:
        num_classes: Channels of the logits.
        in_channels: Channels of the input.
        size_px: (height, width), multiples of 32; the pyramid's pooling is laid out for it.
    """

    def __init__(self, num_classes: int, in_channels: int, size_px: tuple[int, ...]) -> None:
        super().__init__()
        self.size_px = size_px
        self.down = nn.Sequential(
            conv_norm(in_channels, 32, stride=2, bias=False),
            _separable(32, 48, stride=2),
            _separable(48, 64, stride=2),
        )
        blocks: list[nn.Module] = []
        channels = 64
        for width, stride in _GROUPS:
            for index in range(_BLOCKS_A_GROUP):
                blocks.append(_Bottleneck(channels, width, stride=1 if index else stride))
                channels = width
        coarse = tuple(size // _STRIDE for size in size_px)
        self.extract = nn.Sequential(*blocks, _Pyramid(channels, 128, coarse))
        self.widen = conv_norm(128, 128, groups=128, bias=False)
        self.low = conv_norm(128, 128, 1, activation=None)
        self.high = conv_norm(64, 128, 1, activation=None)
        self.head = nn.Sequential(
            _separable(128, 128),
            _separable(128, 128),
            nn.Dropout(0.1),
            nn.Conv2d(128, num_classes, 1),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Turn (B, C, H, W) into (B, num_classes, H, W) logits."""
        fine = self.down(x)
        coarse = _resize(self.extract(fine), tuple(fine.shape[2:]))
        fused = functional.relu(self.high(fine) + self.low(self.widen(coarse)))
        return _resize(self.head(fused), self.size_px)


class _Bottleneck(nn.Module):
    """MobileNetV2's inverted residual."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int) -> None:
        super().__init__()
        wide = in_channels * _EXPANSION
        self.layers = nn.Sequential(
            conv_norm(in_channels, wide, 1, bias=False),
            conv_norm(wide, wide, stride=stride, groups=wide, bias=False),
            conv_norm(wide, out_channels, 1, bias=False, activation=None),
        )
        self.adds = stride == 1 and in_channels == out_channels

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.layers(x)
        return x + y if self.adds else y


class _Pyramid(nn.Module):
    """Means over grids of 1, 2, 3 and 6 cells a side, beside what they are means of.

    The means are products with constant matrices: cells that do not divide the size have no
    pooling in ONNX.
    """

    def __init__(self, in_channels: int, out_channels: int, size: tuple[int, ...]) -> None:
        super().__init__()
        self.size = size
        for bins in _BINS:
            for axis, length in enumerate(size):
                self.register_buffer(_name(bins, axis), _means(length, bins), persistent=False)
        narrow = in_channels // len(_BINS)
        self.convs = nn.ModuleList(conv_norm(in_channels, narrow, 1, bias=False) for _ in _BINS)
        self.out = conv_norm(in_channels + narrow * len(_BINS), out_channels, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = [x]
        for bins, conv in zip(_BINS, self.convs, strict=True):
            rows, columns = self.get_buffer(_name(bins, 0)), self.get_buffer(_name(bins, 1))
            parts.append(_resize(conv(rows @ x @ columns.mT), self.size))
        y: torch.Tensor = self.out(torch.cat(parts, dim=1))
        return y


def _name(bins: int, axis: int) -> str:
    return f"means_{bins}_{axis}"


def _means(length: int, bins: int) -> torch.Tensor:
    """Matrix (bins, length) that averages an axis over cells, as adaptive pooling lays them."""
    matrix = torch.zeros(bins, length)
    for cell in range(bins):
        low, high = cell * length // bins, math.ceil((cell + 1) * length / bins)
        matrix[cell, low:high] = 1 / (high - low)
    return matrix


def _separable(in_channels: int, out_channels: int, *, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        conv_norm(in_channels, in_channels, stride=stride, groups=in_channels, bias=False),
        conv_norm(in_channels, out_channels, 1, bias=False),
    )


def _resize(x: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
    return functional.interpolate(x, size, mode="bilinear")
