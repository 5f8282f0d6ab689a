"""MK-UNet, written here after its paper.

Source: Rahman and Marculescu, MK-UNet: Multi-kernel Lightweight CNN for Medical Image
Segmentation, ICCV Workshops 2025, arXiv:2509.18493.
"""

import math

import torch
from torch import nn
from torch.nn import functional

from peers.blocks import conv_norm, double

_KERNELS = (1, 3, 5)
# Of the squeeze in channel attention, coarse to fine.
_RATIOS = (16, 16, 16, 8, 4)


class MKUNet(nn.Module):
    """A U-Net of inverted residuals with three depthwise kernels, attention and gated skips.

    Without the coarser logits, which the paper has for training only.

    Args:
        num_classes: Channels of the logits.
        in_channels: Channels of the input.
        widths: Channels of the levels; the paper's unless told.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        *,
        widths: tuple[int, ...] = (16, 32, 64, 96, 160),
    ) -> None:
        super().__init__()
        below = (in_channels, *widths[:-1])
        self.downs = nn.ModuleList(
            _MultiKernel(low, high) for low, high in zip(below, widths, strict=True)
        )
        down = tuple(reversed(widths))
        targets = (*down[1:], down[-1])
        self.channels = nn.ModuleList(
            _ChannelAttention(width, ratio) for width, ratio in zip(down, _RATIOS, strict=True)
        )
        self.place = nn.Conv2d(2, 1, 7, padding=3, bias=False)
        self.ups = nn.ModuleList(
            _MultiKernel(high, low) for high, low in zip(down, targets, strict=True)
        )
        self.gates = nn.ModuleList(_Gate(width) for width in down[1:])
        self.head = nn.Conv2d(widths[0], num_classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Turn (B, C, H, W) into (B, num_classes, H, W) logits."""
        skips = []
        for down in self.downs:
            x = functional.max_pool2d(down(x), 2)
            skips.append(x)
        skips.pop()
        for index, up in enumerate(self.ups):
            x = self._attend(self.channels[index](x))
            x = functional.relu(double(up(x)))
            if skips:
                x = x + self.gates[index](x, skips.pop())
        logits: torch.Tensor = self.head(x)
        return logits

    def _attend(self, x: torch.Tensor) -> torch.Tensor:
        """Weigh places; all levels share the weights."""
        seen = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], dim=1)
        return x * self.place(seen).sigmoid()


class _MultiKernel(nn.Module):
    """An inverted residual whose depthwise convolutions of three sizes are added up."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        wide = 2 * in_channels
        self.widen = conv_norm(in_channels, wide, 1, bias=False, activation=nn.ReLU6)
        self.depthwise = nn.ModuleList(
            conv_norm(wide, wide, kernel, groups=wide, bias=False, activation=nn.ReLU6)
            for kernel in _KERNELS
        )
        self.depthwise[0][0] = _Scale(wide)
        self.shuffle = nn.ChannelShuffle(math.gcd(wide, out_channels))
        self.narrow = conv_norm(wide, out_channels, 1, bias=False, activation=None)
        self.skip = (
            nn.Identity()
            if in_channels == out_channels
            else nn.Conv2d(in_channels, out_channels, 1, bias=False)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wide = self.widen(x)
        first, second, third = (conv(wide) for conv in self.depthwise)
        mixed = first + second + third
        y: torch.Tensor = self.skip(x) + self.narrow(self.shuffle(mixed))
        return y


class _Scale(nn.Conv2d):
    """A depthwise convolution of one pixel, in training a product, which torch is faster at."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, 1, groups=channels, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.weight[:, 0] if self.training else super().forward(x)


class _ChannelAttention(nn.Module):
    """Weights of channels from their means and their largest values."""

    def __init__(self, channels: int, ratio: int) -> None:
        super().__init__()
        narrow = max(1, channels // ratio)
        self.layers = nn.Sequential(
            nn.Conv2d(channels, narrow, 1, bias=False),
            nn.ReLU(),
            nn.Conv2d(narrow, channels, 1, bias=False),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        means, peaks = x.mean((2, 3), keepdim=True), x.amax((2, 3), keepdim=True)
        return x * (self.layers(means) + self.layers(peaks)).sigmoid()


class _Gate(nn.Module):
    """Weights of a skip's places, from it and from what comes from below."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        narrow = channels // 2
        self.coarse, self.fine = (
            conv_norm(channels, narrow, groups=narrow, activation=None) for _ in range(2)
        )
        self.weight = conv_norm(narrow, 1, 1, activation=nn.Sigmoid)

    def forward(self, coarse: torch.Tensor, fine: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.weight(functional.relu(self.coarse(coarse) + self.fine(fine)))
        return fine * y
