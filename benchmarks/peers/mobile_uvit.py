"""Mobile U-ViT, written here after its paper.

Source: Tang et al., Mobile U-ViT: Revisiting large kernel and U-shaped ViT for efficient medical
image segmentation, ACM MM 2025, arXiv:2508.01064.
"""

import torch
from torch import nn
from torch.nn import functional

from peers.blocks import ChannelNorm, FreeNorm, Residual, conv_norm, double

_WIDTHS = (16, 32, 64, 128)
_DEPTHS = (1, 1, 3)
_KERNELS = (3, 3, 7)
_BLOCKS = 3
_HEADS = 4
_LARGE = 9


class MobileUViT(nn.Module):
    """Large-kernel convolutions down to stride 8, attention in two widths, and the way back.

    Without the paper's stochastic depth of 0.1 in its local-global blocks.

    Args:
        num_classes: Channels of the logits.
        in_channels: Channels of the input.
    """

    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        one, two, three, four = _WIDTHS
        self.stem = conv_norm(in_channels, one)
        below = (one, one, two)
        self.levels = nn.ModuleList(
            nn.Sequential(*(_mix(low, kernel) for _ in range(depth)), conv_norm(low, high))
            for low, high, kernel, depth in zip(below, _WIDTHS[:3], _KERNELS, _DEPTHS, strict=True)
        )
        self.bottleneck = nn.Sequential(
            *(nn.Sequential(_Local(three), _attend(three, stride=2)) for _ in range(_BLOCKS)),
            _convs(three, four),
            *(_attend(four, stride=1) for _ in range(_BLOCKS)),
            _convs(four, three),
        )
        self.entries = nn.ModuleList([nn.Identity(), conv_norm(three, two), conv_norm(two, one)])
        self.fusions = nn.ModuleList(_convs(2 * width, width) for width in (three, two, one))
        self.last = conv_norm(one, one)
        self.head = nn.Conv2d(one, num_classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Turn (B, C, H, W) into (B, num_classes, H, W) logits."""
        x, skips = self.stem(x), []
        for level in self.levels:
            # A skip goes half as fine as its level: that is the paper's cascade.
            x = functional.max_pool2d(level(x), 2)
            skips.append(x)
        x = self.bottleneck(x)
        for index, (entry, fusion) in enumerate(zip(self.entries, self.fusions, strict=True)):
            x = entry(double(x) if index else x)
            x = fusion(torch.cat([x, skips.pop()], dim=1))
        logits: torch.Tensor = self.head(self.last(double(x)))
        return logits


class _Local(nn.Module):
    """Three weightings of the input by sigmoids of depthwise convolutions."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        large = {"kernel_size": _LARGE, "padding": _LARGE // 2, "groups": channels}
        self.branches = nn.ModuleList(
            [
                nn.Conv2d(channels, channels, **large),
                nn.Sequential(
                    FreeNorm(channels),
                    nn.Conv2d(channels, channels, 1),
                    nn.Conv2d(channels, channels, **large),
                    nn.Conv2d(channels, channels, 1),
                ),
                nn.Sequential(
                    FreeNorm(channels),
                    nn.Conv2d(channels, 4 * channels, 3, padding=1, groups=channels),
                    nn.GELU(),
                    nn.Conv2d(4 * channels, channels, 3, padding=1, groups=channels),
                ),
            ]
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for branch in self.branches:
            x = x * (branch(x).sigmoid() + 0.5)
        return x


class _Attention(nn.Module):
    """Attention among all places, or every second one, whose result is spread again."""

    def __init__(self, channels: int, *, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.spread: nn.Module = nn.Identity()
        if stride > 1:
            self.spread = nn.Sequential(
                nn.ConvTranspose2d(channels, channels, stride, stride, groups=channels),
                ChannelNorm(channels),
            )
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x[:, :, :: self.stride, :: self.stride]
        height, width = x.shape[2:]
        # (B, 3 * heads * C', H, W) to three of (B, heads, H * W, C').
        q, k, v = self.qkv(x).flatten(2).unflatten(1, (3, _HEADS, -1)).mT.unbind(1)
        weights = (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1)
        x = (weights @ v).mT.flatten(1, 2).unflatten(2, (height, width))
        y: torch.Tensor = self.out(self.spread(x))
        return y


def _attend(channels: int, *, stride: int) -> nn.Sequential:
    return nn.Sequential(
        Residual(nn.Conv2d(channels, channels, 3, padding=1, groups=channels)),
        Residual(ChannelNorm(channels, eps=1e-6), _Attention(channels, stride=stride)),
        Residual(
            ChannelNorm(channels, eps=1e-6),
            nn.Conv2d(channels, 4 * channels, 1),
            nn.GELU(),
            nn.Conv2d(4 * channels, channels, 1),
        ),
    )


def _mix(channels: int, kernel: int) -> nn.Sequential:
    """A depthwise convolution and two pointwise ones, each pair a residual."""
    wide = 4 * channels
    return nn.Sequential(
        Residual(
            nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels),
            nn.GELU(),
            FreeNorm(channels),
        ),
        Residual(
            nn.Conv2d(channels, wide, 1),
            nn.GELU(),
            FreeNorm(wide),
            nn.Conv2d(wide, channels, 1),
            nn.GELU(),
            FreeNorm(channels),
        ),
    )


def _convs(in_channels: int, out_channels: int) -> nn.Sequential:
    return nn.Sequential(
        conv_norm(in_channels, out_channels), conv_norm(out_channels, out_channels)
    )
