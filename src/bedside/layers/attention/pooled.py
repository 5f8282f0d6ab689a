"""Pooled attention: every token reads a small grid of pooled keys; global, and linear in size."""

from dataclasses import dataclass

import torch

from bedside.layers.attention.heads import Heads, attend
from bedside.layers.windows import pad_tokens, pool_windows
from bedside.spec import LevelSpec


@dataclass(frozen=True)
class PooledAttention:
    """Each token attends to the means of keys and values over the cells of a coarse grid.

    The grid has the same number of cells for every size of map, or fewer where the size
    leaves some over.

    Attributes:
        heads: How channels divide.
        grid: Cells along each axis, at most.

    Source:
        Wang et al., PVTv2, Computational Visual Media 2022 (linear spatial reduction).

    Example:
        >>> attention = PooledAttention(Heads(num_heads=2, head_dim=4), grid=4)
        >>> attention(torch.rand(1, 9, 14, 16)).shape
        torch.Size([1, 9, 14, 8])
    """

    heads: Heads
    grid: int

    def __call__(self, tokens: torch.Tensor) -> torch.Tensor:
        """Turn (B, *S, C) into (B, *S, heads * d)."""
        batch, *sizes, _ = tokens.shape
        cell = [-(-size // self.grid) for size in sizes]
        queries, *context = self.heads.split(tokens)
        keys, values = (pool_windows(pad_tokens(part, cell), sizes, cell) for part in context)
        read = attend(queries.flatten(1, -2), keys, values, kv_heads=self.heads.kv_heads)
        return read.reshape(batch, *sizes, -1)


def create(level: LevelSpec) -> PooledAttention:
    """Mechanism of a level's spec."""
    heads = Heads(level.num_heads, level.head_dim, level.kv_heads)
    return PooledAttention(heads, grid=level.grid)
