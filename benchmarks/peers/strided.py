"""A library's network behind the stem of ours: it works at stride 4, its logits have stride 2."""

import torch
from torch import nn


class Strided(nn.Module):
    """Two strided convolutions, a network at a quarter of the size, and logits at half of it.

    Args:
        inside: From (B, channels, H / 4, W / 4) to four times as many channels as classes.
        in_channels: Channels of the input.
        channels: Channels of the stem.
    """

    def __init__(self, inside: nn.Module, *, in_channels: int, channels: int) -> None:
        super().__init__()
        narrow = channels // 2
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, narrow, 3, 2, 1, bias=False),
            nn.BatchNorm2d(narrow),
            nn.ReLU(),
            nn.Conv2d(narrow, channels, 3, 2, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
        )
        self.inside = inside
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Turn (B, C, H, W) into (B, num_classes, H / 2, W / 2) logits."""
        logits: torch.Tensor = self.shuffle(self.inside(self.stem(x)))
        return logits
