"""The hybrid network: light convolutions above, light attention below, a fusion decoder.

One code for two and three dimensions, any size of input, any number of channels and classes.
"""

import itertools
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import nn
from torch.nn import functional

from bedside.layers.attention import Level, WindowExchange
from bedside.layers.conv import MEMORY_FORMATS, ConvNorm, InvertedResidual, choose_convolution
from bedside.layers.shuffle import shuffle
from bedside.layers.tracing import is_exporting
from bedside.models.outputs import Outputs
from bedside.spec import ModelSpec
from bedside.spec.model import CONV_BLOCKS, FUSION_RATIO


class Hybrid(nn.Module):
    """A light encoder of several levels and a decoder that fuses them at the finest.

    The stem takes the image to the first level's stride; each further level halves the
    size, rounding up. The decoder adds the levels from coarse to fine at one narrow
    width, whatever their own. Logits come out below full size, because the last doublings
    cost much and contours do not gain by them.

    Sizes need not be multiples of anything: halvings round up, doublings are cropped, and
    attention fills its windows up and hides the keys that it added.

    Auxiliary logits and the boundary branch exist in training only, in `supervise`: at
    inference they would cost time and say nothing that the logits do not. `forward`, and
    with it the exported graph, leaves them out.

    Args:
        spec: Widths, depths and kinds of block.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        spatial_dims, width = spec.spatial_dims, spec.decoder_channels
        channels = [level.channels for level in spec.levels]
        strides = {1: (1, 1), 2: (2, 1), 4: (2, 2)}[spec.stem_stride]
        self.spatial_dims = spatial_dims
        self.logit_stride = spec.logit_stride
        self.stem = nn.Sequential(
            ConvNorm(
                spec.in_channels,
                spec.stem_channels,
                kernel=3,
                stride=strides[0],
                spatial_dims=spatial_dims,
            ),
            ConvNorm(
                spec.stem_channels,
                channels[0],
                kernel=3,
                stride=strides[1],
                spatial_dims=spatial_dims,
            ),
        )
        self.levels = nn.ModuleList(create_level(spec, number) for number in range(len(channels)))
        self.downs = nn.ModuleList(
            ConvNorm(fine, coarse, kernel=3, stride=2, spatial_dims=spatial_dims)
            for fine, coarse in itertools.pairwise(channels)
        )
        self.laterals = nn.ModuleList(
            ConvNorm(c, width, activation=False, spatial_dims=spatial_dims) for c in channels
        )
        self.fusions = nn.ModuleList(
            InvertedResidual(
                width,
                mlp_ratio=FUSION_RATIO,
                hidden=spec.hidden.get(f"fusions.{n}"),
                spatial_dims=spatial_dims,
            )
            for n in range(len(channels) - 1)
        )
        self.shuffle = spec.stem_stride // spec.logit_stride
        cells = self.shuffle**spatial_dims
        convolution = choose_convolution(spatial_dims)
        self.head = convolution(width, spec.num_classes * cells, 1)
        self.auxiliary = nn.ModuleList(
            convolution(width, spec.num_classes, 1) for _ in channels[1:] if spec.deep_supervision
        )
        self.boundary = convolution(width, cells, 1) if spec.boundary else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Turn images into logits.

        Args:
            x: (B, C, *S) float, of any size.

        Returns:
            (B, num_classes, *S / logit_stride) logits, sizes rounded up.
        """
        return self._to_logits(self.head, self._decode(self._encode(x))[0], x)

    def supervise(self, x: torch.Tensor) -> Outputs:
        """Turn images into logits and all that training compares with the truth.

        Args:
            x: As in `forward`.
        """
        features = self._encode(x)
        fused = self._decode(features)
        boundary = None if self.boundary is None else self._to_logits(self.boundary, fused[0], x)
        return Outputs(
            logits=self._to_logits(self.head, fused[0], x),
            auxiliary=tuple(
                head(level) for head, level in zip(self.auxiliary, fused[1:], strict=False)
            ),
            boundary=boundary,
            features=tuple(features),
        )

    def _encode(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Return the features of each level, from fine to coarse."""
        if not is_exporting():
            x = x.contiguous(memory_format=MEMORY_FORMATS[self.spatial_dims])
        x = self.stem(x)
        features = []
        for index, level in enumerate(self.levels):
            x = level(x if index == 0 else self.downs[index - 1](x))
            features.append(x)
        return features

    def _decode(self, features: list[torch.Tensor]) -> list[torch.Tensor]:
        """Fuse features from coarse to fine; returns those of each level, finest first."""
        fused = [self.laterals[-1](features[-1])]
        for index in range(len(features) - 2, -1, -1):
            larger = functional.interpolate(fused[0], scale_factor=2.0, mode="nearest")
            lateral = self.laterals[index](features[index])
            larger = crop(larger, lateral.shape[2:])
            fused.insert(0, self.fusions[index](lateral + larger))
        return fused

    def _to_logits(self, head: nn.Module, fused: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """Apply a head to the finest level, and bring it to the stride and size of logits."""
        logits = shuffle(head(fused), self.shuffle)
        return crop(logits, [-(-size // self.logit_stride) for size in x.shape[2:]])


def create_level(spec: ModelSpec, number: int) -> nn.Sequential:
    """Build the blocks of one level of a network."""
    level, spatial_dims = spec.levels[number], spec.spatial_dims
    hidden, heads = (_of_level(table, number) for table in (spec.hidden, spec.heads))
    if level.block not in CONV_BLOCKS:
        return Level(level, hidden=hidden, heads=heads, spatial_dims=spatial_dims)
    blocks: list[nn.Module] = [
        InvertedResidual(
            level.channels,
            mlp_ratio=level.mlp_ratio,
            hidden=hidden.get(block),
            branched=level.block == "reparam",
            spatial_dims=spatial_dims,
        )
        for block in range(level.depth)
    ]
    if level.exchange_window:
        own = replace(level, num_heads=heads.get(level.depth, level.num_heads))
        blocks.append(WindowExchange(own, spatial_dims=spatial_dims))
    return nn.Sequential(*blocks)


def _of_level(table: Mapping[str, int], number: int) -> dict[int, int]:
    """Entries of a table for one level's blocks, by number of the block.

    Example:
        >>> _of_level({"levels.1.0": 24, "levels.10.0": 32, "fusions.1": 16}, 1)
        {0: 24}
    """
    parts = {tuple(path.split(".")): value for path, value in table.items()}
    return {
        int(block): value
        for (kind, *where, block), value in parts.items()
        if kind == "levels" and where == [str(number)]
    }


def crop(x: torch.Tensor, sizes: torch.Size | list[int]) -> torch.Tensor:
    """Crop (B, C, *S) at the end, to `sizes`."""
    for axis, size in enumerate(sizes, 2):
        if x.shape[axis] != size:
            x = x.narrow(axis, 0, size)
    return x
