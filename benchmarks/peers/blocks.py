"""Blocks that several of the small networks are made of."""

import torch
from torch import nn
from torch.nn import functional


def conv_norm(
    in_channels: int,
    out_channels: int,
    kernel: int = 3,
    *,
    stride: int = 1,
    groups: int = 1,
    bias: bool = True,
    activation: type[nn.Module] | None = nn.ReLU,
) -> nn.Sequential:
    """A convolution that keeps the size but for its stride, batch norm and an activation."""
    layers: list[nn.Module] = [
        nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=bias),
        nn.BatchNorm2d(out_channels),
    ]
    if activation is not None:
        layers.append(activation())
    return nn.Sequential(*layers)


def double(x: torch.Tensor, factor: int = 2) -> torch.Tensor:
    """Enlarge (B, C, H, W) bilinearly by a factor, twofold unless told."""
    return functional.interpolate(x, scale_factor=float(factor), mode="bilinear")


class Residual(nn.Module):
    """Layers whose input is added to their output."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Turn (B, C, H, W) into the same shape."""
        return x + self.layers(x)


class ChannelNorm(nn.LayerNorm):
    """A layer norm over the channels of (B, C, H, W)."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Turn (B, C, H, W) into the same shape."""
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class FreeNorm(nn.BatchNorm2d):
    """A batch norm that does not follow a convolution: a scale and a shift once it is trained.

    Exporters fold a batch norm into the convolution before it, and leave others as they are.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Turn (B, C, H, W) into the same shape."""
        if self.training:
            return super().forward(x)
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        shift = self.bias - self.running_mean * scale
        return x * scale[:, None, None] + shift[:, None, None]
