"""CMUNeXt, written here after its paper.

Source: Tang et al., CMUNeXt: An Efficient Medical Image Segmentation Network based on Large
Kernel and Skip Fusion, ISBI 2024, arXiv:2308.01239.
"""

import itertools

import torch
from torch import nn
from torch.nn import functional

from peers.blocks import FreeNorm, Residual, conv_norm, double


class CMUNeXt(nn.Module):
    """A U-Net of depthwise convolutions with large kernels, and fusions in two groups.

    Args:
        num_classes: Channels of the logits.
        in_channels: Channels of the input.
        widths: Channels of the levels; those of CMUNeXt-S unless told.
        kernels: Sides of the levels' kernels.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        *,
        widths: tuple[int, ...] = (8, 16, 32, 64, 128),
        kernels: tuple[int, ...] = (3, 3, 7, 7, 9),
    ) -> None:
        super().__init__()
        self.stem = conv_norm(in_channels, widths[0])
        below = (widths[0], *widths[:-1])
        self.levels = nn.ModuleList(
            nn.Sequential(_mix(low, kernel), conv_norm(low, high))
            for low, high, kernel in zip(below, widths, kernels, strict=True)
        )
        down = tuple(reversed(widths))
        pairs = list(itertools.pairwise(down))
        self.ups = nn.ModuleList(conv_norm(high, low) for high, low in pairs)
        self.fusions = nn.ModuleList(_fuse(low) for _, low in pairs)
        self.head = nn.Conv2d(widths[0], num_classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Turn (B, C, H, W) into (B, num_classes, H, W) logits."""
        x = self.stem(x)
        skips: list[torch.Tensor] = []
        for level in self.levels:
            x = level(functional.max_pool2d(x, 2) if skips else x)
            skips.append(x)
        skips.pop()
        for up, fusion in zip(self.ups, self.fusions, strict=True):
            x = fusion(torch.cat([skips.pop(), up(double(x))], dim=1))
        logits: torch.Tensor = self.head(x)
        return logits


def _mix(channels: int, kernel: int) -> nn.Sequential:
    depthwise = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels)
    return nn.Sequential(
        Residual(depthwise, nn.GELU(), FreeNorm(channels)),
        *_widen(channels, channels),
    )


def _fuse(channels: int) -> nn.Sequential:
    """Bring a skip and what comes from below, a group each, down to the level's channels."""
    both = 2 * channels
    return nn.Sequential(
        nn.Conv2d(both, both, 3, padding=1, groups=2),
        nn.GELU(),
        FreeNorm(both),
        *_widen(both, channels),
    )


def _widen(in_channels: int, out_channels: int) -> list[nn.Module]:
    """Two pointwise convolutions, four times as wide between; norms follow activations."""
    wide = 4 * out_channels
    return [
        nn.Conv2d(in_channels, wide, 1),
        nn.GELU(),
        FreeNorm(wide),
        nn.Conv2d(wide, out_channels, 1),
        nn.GELU(),
        FreeNorm(out_channels),
    ]
