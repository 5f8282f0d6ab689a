"""The hybrid network: light convolutions above, window attention below, a fusion decoder."""

import itertools

import torch
from torch import nn
from torch.nn import functional

from bedside.layers.attention import TransformerBlock
from bedside.layers.conv import ConvNorm, InvertedResidual
from bedside.spec import LevelSpec, ModelSpec


def create_level(level: LevelSpec) -> nn.Sequential:
    """Build the blocks of one level."""
    if level.block == "conv":
        return nn.Sequential(
            *(
                InvertedResidual(level.channels, mlp_ratio=level.mlp_ratio)
                for _ in range(level.depth)
            )
        )
    return nn.Sequential(
        *(
            TransformerBlock(
                level.channels,
                num_heads=level.num_heads,
                head_dim=level.head_dim,
                window=level.window,
                exchange=level.exchange,
                mlp_ratio=level.mlp_ratio,
            )
            for _ in range(level.depth)
        )
    )


class Hybrid(nn.Module):
    """A light encoder of several levels and a decoder that fuses them at the finest.

    The stem takes the image to stride 4; each further level halves the size. The decoder
    adds the levels from coarse to fine at one narrow width. Logits come out below full
    size, because the last doublings cost much and contours do not gain by them.

    Args:
        spec: Widths, depths and kinds of block.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        width = spec.decoder_channels
        channels = [level.channels for level in spec.levels]
        self.stem = nn.Sequential(
            ConvNorm(spec.in_channels, spec.stem_channels, kernel=3, stride=2),
            ConvNorm(spec.stem_channels, channels[0], kernel=3, stride=2),
        )
        self.levels = nn.ModuleList(create_level(level) for level in spec.levels)
        self.downs = nn.ModuleList(
            ConvNorm(fine, coarse, kernel=3, stride=2)
            for fine, coarse in itertools.pairwise(channels)
        )
        self.laterals = nn.ModuleList(ConvNorm(c, width, activation=False) for c in channels)
        self.fusions = nn.ModuleList(InvertedResidual(width) for _ in channels[1:])
        self.shuffle = 4 // spec.logit_stride
        self.head = nn.Conv2d(width, spec.num_classes * self.shuffle**2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Turn images into logits.

        Args:
            x: (B, C, H, W) float; H and W multiples of the coarsest stride times window.

        Returns:
            (B, num_classes, H / logit_stride, W / logit_stride) logits.
        """
        x = self.stem(x)
        features = []
        for index, level in enumerate(self.levels):
            x = level(x if index == 0 else self.downs[index - 1](x))
            features.append(x)
        fused: torch.Tensor = self.laterals[-1](features[-1])
        for index in range(len(features) - 2, -1, -1):
            larger = functional.interpolate(fused, scale_factor=2.0, mode="nearest")
            fused = self.fusions[index](self.laterals[index](features[index]) + larger)
        logits: torch.Tensor = self.head(fused)
        return functional.pixel_shuffle(logits, self.shuffle) if self.shuffle > 1 else logits
