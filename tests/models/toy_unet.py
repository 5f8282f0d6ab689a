"""A small U-Net: what a new architecture has to write, and no more."""

import itertools

import torch
from torch import nn
from torch.nn import functional

from bedside.layers.conv import ConvNorm
from bedside.spec import ModelSpec


class UNet(nn.Module):
    """Two convolutions a level, halved by strides, joined by concatenation."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        dims, widths = spec.spatial_dims, [level.channels for level in spec.levels]
        joined = [fine + coarse for fine, coarse in itertools.pairwise(widths)]
        self.dims = dims
        self.stem = ConvNorm(
            spec.in_channels, widths[0], kernel=3, stride=spec.logit_stride, spatial_dims=dims
        )
        self.down = nn.ModuleList(
            ConvNorm(a, b, kernel=3, stride=2, spatial_dims=dims)
            for a, b in itertools.pairwise(widths)
        )
        self.up = nn.ModuleList(
            ConvNorm(width, fine, kernel=3, spatial_dims=dims)
            for width, fine in zip(joined, widths, strict=False)
        )
        self.head = {2: nn.Conv2d, 3: nn.Conv3d}[dims](widths[0], spec.num_classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features = [self.stem(x)]
        for down in self.down:
            features.append(down(features[-1]))
        x = features.pop()
        for up in reversed(self.up):
            fine = features.pop()
            x = functional.interpolate(x, scale_factor=2.0, mode="nearest")
            for axis, size in enumerate(fine.shape[2:], 2):
                x = x.narrow(axis, 0, size)
            x = up(torch.cat([fine, x], dim=1))
        return self.head(x)
