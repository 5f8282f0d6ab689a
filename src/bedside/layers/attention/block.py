"""The Transformer block: attention of any mechanism in 1x1 convolutions, a depthwise, an MLP.

Positions come from the depthwise convolution of each block, so no bias table is needed and
any number of windows works.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import nn
from torch.nn import functional

from bedside.layers.attention.exchange import read_means
from bedside.layers.attention.heads import Heads
from bedside.layers.attention.table import create_mechanism
from bedside.layers.conv import ConvNorm
from bedside.layers.windows import (
    count_windows,
    crop_tokens,
    fit_window,
    from_tokens,
    pad_tokens,
    pool_windows,
    to_tokens,
)
from bedside.spec import LevelSpec


class Attention(nn.Module):
    """Attention between 1x1 projections to queries, keys and values, and back.

    Args:
        level: Mechanism, width and heads.
        spatial_dims: Spatial axes, 2 or 3.
    """

    def __init__(self, level: LevelSpec, *, spatial_dims: int = 2) -> None:
        super().__init__()
        heads = Heads(level.num_heads, level.head_dim, level.kv_heads)
        self.mechanism = create_mechanism(level)
        self.project_in = ConvNorm(
            level.channels, sum(heads.widths), activation=False, spatial_dims=spatial_dims
        )
        self.project_out = ConvNorm(
            heads.widths[0], level.channels, activation=False, spatial_dims=spatial_dims
        )
        with torch.no_grad():
            # The usual scale of queries, 1 / sqrt(d), starts inside the batch norm.
            self.project_in.norm.weight[: heads.widths[0]] *= level.head_dim**-0.5

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Transform (B, C, *S) into the same shape."""
        # Channels go last before windows are cut: convolutions run so, nothing moves.
        tokens = to_tokens(self.project_in(x))
        update: torch.Tensor = self.project_out(from_tokens(self.mechanism(tokens)))
        return update


class TransformerBlock(nn.Module):
    """Attention, then a depthwise 3x3 and a two-layer MLP, each added to its input.

    Args:
        level: Mechanism, widths and heads.
        hidden: Inner width of the MLP; None for the level's ratio.
        spatial_dims: Spatial axes, 2 or 3.

    Example:
        >>> block = TransformerBlock(LevelSpec("overlap", channels=8, depth=1, head_dim=4))
        >>> block(torch.rand(1, 8, 9, 12)).shape
        torch.Size([1, 8, 9, 12])
    """

    def __init__(
        self, level: LevelSpec, *, hidden: int | None = None, spatial_dims: int = 2
    ) -> None:
        super().__init__()
        channels, hidden = level.channels, hidden or level.channels * level.mlp_ratio
        self.attention = Attention(level, spatial_dims=spatial_dims)
        self.spatial = ConvNorm(
            channels,
            channels,
            kernel=3,
            groups=channels,
            activation=False,
            spatial_dims=spatial_dims,
        )
        self.expand = ConvNorm(channels, hidden, spatial_dims=spatial_dims)
        self.project = ConvNorm(hidden, channels, activation=False, spatial_dims=spatial_dims)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Transform (B, C, *S) into the same shape."""
        x = x + self.attention(x)
        update: torch.Tensor = self.project(self.expand(self.spatial(x)))
        return x + update

    def share_weights(self, shared_with: "TransformerBlock", shared: str) -> None:
        """Use the convolutions of another block; the norms stay this block's own.

        Args:
            shared_with: A block of the same level.
            shared: "attention", "mlp", "both", or "none".
        """
        if shared in ("attention", "both"):
            self.attention.project_in.share_weights(shared_with.attention.project_in)
            self.attention.project_out.share_weights(shared_with.attention.project_out)
        if shared in ("mlp", "both"):
            self.expand.share_weights(shared_with.expand)
            self.project.share_weights(shared_with.project)


class WindowExchange(nn.Module):
    """The exchange for a level of convolutions: means of windows attend to each other.

    They are projected after they are pooled, so that all of it works on few tokens; what
    each window's mean has read is added to all of its tokens.

    Args:
        level: Width, heads, and side of the windows.
        spatial_dims: Spatial axes, 2 or 3.

    Example:
        >>> level = LevelSpec("conv", channels=8, depth=1, head_dim=4, exchange_window=4)
        >>> WindowExchange(level)(torch.rand(2, 8, 9, 12)).shape
        torch.Size([2, 8, 9, 12])
    """

    def __init__(self, level: LevelSpec, *, spatial_dims: int = 2) -> None:
        super().__init__()
        self.window, self.grid = level.exchange_window, level.grid
        self.heads = Heads(level.num_heads, level.head_dim, level.kv_heads)
        widths = self.heads.widths
        self.project_in = ConvNorm(
            level.channels, sum(widths), activation=False, spatial_dims=spatial_dims
        )
        self.project_out = ConvNorm(
            widths[0], level.channels, activation=False, spatial_dims=spatial_dims
        )
        with torch.no_grad():
            self.project_in.norm.weight[: widths[0]] *= level.head_dim**-0.5

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Transform (B, C, *S) into the same shape."""
        batch, channels, *sizes = x.shape
        side = fit_window(sizes, self.window)
        padded = pad_tokens(to_tokens(x), side)
        counts = count_windows(padded, side)
        means = pool_windows(padded, sizes, side).reshape(batch, *counts, channels)
        tokens = to_tokens(self.project_in(from_tokens(means)))
        read = read_means(tokens.flatten(1, -2), self.heads, counts=counts, grid=self.grid)
        update = self.project_out(from_tokens(read.reshape(batch, *counts, -1)))
        scale = [float(length) for length in side]
        spread = functional.interpolate(update, scale_factor=scale, mode="nearest")
        return x + from_tokens(crop_tokens(to_tokens(spread), sizes))


class Level(nn.Sequential):
    """The Transformer blocks of a level; all but the first use what the level shares.

    Args:
        level: Depth, and what each block is made of.
        hidden: Inner widths that are not the level's, by number of the block.
        heads: Query heads that are not the level's, by number of the block.
        spatial_dims: Spatial axes, 2 or 3.
    """

    def __init__(
        self,
        level: LevelSpec,
        *,
        hidden: Mapping[int, int] | None = None,
        heads: Mapping[int, int] | None = None,
        spatial_dims: int = 2,
    ) -> None:
        hidden, heads = hidden or {}, heads or {}
        blocks = []
        for number in range(level.depth):
            # A block that shares convolutions has their size.
            of_mlp = number if number in level.owners("mlp") else 0
            of_attention = number if number in level.owners("attention") else 0
            own = replace(level, num_heads=heads.get(of_attention, level.num_heads))
            blocks.append(
                TransformerBlock(own, hidden=hidden.get(of_mlp), spatial_dims=spatial_dims)
            )
        super().__init__(*blocks)
        for block in blocks[1:]:
            block.share_weights(blocks[0], level.shared)
