"""Light convolutions whose batch norm folds away at export."""

from typing import cast

import torch
from torch import nn


class ConvNorm(nn.Sequential):
    """Convolution, batch norm, and optionally a ReLU: one operation once exported.

    Args:
        in_channels: Channels in.
        out_channels: Channels out.
        kernel: Kernel size; the padding keeps the size at stride 1.
        stride: Stride.
        groups: Groups of the convolution.
        activation: Whether a ReLU follows.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        activation: bool = True,
    ) -> None:
        convolution = nn.Conv2d(
            in_channels,
            out_channels,
            kernel,
            stride,
            padding=(kernel - 1) // 2,
            groups=groups,
            bias=False,
        )
        layers: list[nn.Module] = [convolution, nn.BatchNorm2d(out_channels)]
        if activation:
            layers.append(nn.ReLU(inplace=True))
        super().__init__(*layers)

    @property
    def norm(self) -> nn.BatchNorm2d:
        """The batch norm."""
        return cast(nn.BatchNorm2d, self[1])


class InvertedResidual(nn.Module):
    """Widen by 1x1, mix space by depthwise 3x3, narrow by 1x1, and add to the input.

    Args:
        channels: Channels in and out.
        mlp_ratio: Inner width over `channels`.

    Source:
        Sandler et al., MobileNetV2, CVPR 2018.
    """

    def __init__(self, channels: int, *, mlp_ratio: int = 2) -> None:
        super().__init__()
        hidden = channels * mlp_ratio
        self.expand = ConvNorm(channels, hidden)
        self.spatial = ConvNorm(hidden, hidden, kernel=3, groups=hidden)
        self.project = ConvNorm(hidden, channels, activation=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Transform (B, C, H, W) into the same shape."""
        update: torch.Tensor = self.project(self.spatial(self.expand(x)))
        return x + update
