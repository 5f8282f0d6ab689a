"""UNeXt, written here after its paper.

Source: Valanarasu and Patel, UNeXt: MLP-based Rapid Medical Image Segmentation Network,
MICCAI 2022, arXiv:2203.04967.
"""

import itertools

import torch
from torch import nn
from torch.nn import functional

from peers.blocks import ChannelNorm, Residual, conv_norm, double

# Groups of channels that are moved by -2 to 2 positions.
_GROUPS = 5


class UNeXt(nn.Module):
    """Three levels of convolutions, two of MLPs over shifted channels, and the way back.

    Args:
        num_classes: Channels of the logits.
        in_channels: Channels of the input.
        widths: Channels of the five levels; those of UNeXt-S unless told.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        *,
        widths: tuple[int, ...] = (8, 16, 32, 64, 128),
    ) -> None:
        super().__init__()
        below = (in_channels, *widths[:2])
        self.convs = nn.ModuleList(
            conv_norm(low, high, activation=None)
            for low, high in zip(below, widths[:3], strict=True)
        )
        self.tokens = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(low, high, 3, 2, 1), ChannelNorm(high), _mixer(high), ChannelNorm(high)
            )
            for low, high in itertools.pairwise(widths[2:])
        )
        down = tuple(reversed(widths))
        self.ups = nn.ModuleList(
            conv_norm(high, low, activation=None) for high, low in itertools.pairwise(down)
        )
        self.mixers = nn.ModuleList(
            nn.Sequential(_mixer(width), ChannelNorm(width)) for width in down[1:3]
        )
        self.last = nn.Conv2d(widths[0], widths[0], 3, padding=1)
        self.head = nn.Conv2d(widths[0], num_classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Turn (B, C, H, W) into (B, num_classes, H, W) logits."""
        skips = []
        for conv in self.convs:
            x = functional.relu(functional.max_pool2d(conv(x), 2))
            skips.append(x)
        first, second = self.tokens
        x = first(x)
        skips.append(x)
        x = second(x)
        for index, up in enumerate(self.ups):
            x = functional.relu(double(up(x))) + skips.pop()
            if index < len(self.mixers):
                x = self.mixers[index](x)
        logits: torch.Tensor = self.head(functional.relu(double(self.last(x))))
        return logits


class _ShiftedMLP(nn.Module):
    """Two layers over channels, each of positions moved along one axis, 3 x 3 between them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 1)
        self.local = nn.Conv2d(channels, channels, 3, padding=1, groups=channels)
        self.second = nn.Conv2d(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = functional.gelu(self.local(self.first(_shift(x, 2))))
        y: torch.Tensor = self.second(_shift(x, 3))
        return y


def _mixer(channels: int) -> Residual:
    return Residual(ChannelNorm(channels), _ShiftedMLP(channels))


def _shift(x: torch.Tensor, axis: int) -> torch.Tensor:
    """Move each group of channels by its number of positions along an axis; zeros come in."""
    reach, length = _GROUPS // 2, x.shape[axis]
    pads = (0, 0, reach, reach) if axis == 2 else (reach, reach, 0, 0)
    groups = functional.pad(x, pads).chunk(_GROUPS, dim=1)
    return torch.cat([group.narrow(axis, place, length) for place, group in enumerate(groups)], 1)
