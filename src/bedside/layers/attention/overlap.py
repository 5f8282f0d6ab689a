"""Overlapping windows: queries of a window see the keys of a larger one around it."""

from dataclasses import dataclass

import torch

from bedside.layers.attention.exchange import exchange, exchange_map
from bedside.layers.attention.heads import Heads, attend
from bedside.layers.kernels import has_kernel, read_windows
from bedside.layers.windows import (
    count_windows,
    crop_tokens,
    cut_windows,
    fit_window,
    join_windows,
    key_bias,
    pad_tokens,
    pool_windows,
    repeat_batch,
)
from bedside.spec import LevelSpec


@dataclass(frozen=True)
class OverlapAttention:
    """Each token attends to those of its window and of a halo around it.

    Halos are put together axis by axis out of slices of the neighbouring windows, for
    keys and values only; keys beyond the border are hidden.

    Attributes:
        heads: How channels divide.
        windows: Side of a window; several share the query heads among them.
        halo: Tokens seen beyond the window, on each side.
        exchange: Whether the windows' means attend to each other.
        grid: Means along each axis that are attended to, at most.

    Source:
        Vaswani et al., Scaling Local Self-Attention (HaloNet), CVPR 2021.

    Example:
        >>> attention = OverlapAttention(Heads(num_heads=2, head_dim=4), windows=(4,), halo=2)
        >>> attention(torch.rand(1, 6, 8, 10, 16)).shape
        torch.Size([1, 6, 8, 10, 8])
    """

    heads: Heads
    windows: tuple[int, ...]
    halo: int
    exchange: bool = False
    grid: int = 8

    def __call__(self, tokens: torch.Tensor) -> torch.Tensor:
        """Turn (B, *S, C) into (B, *S, heads * d)."""
        return self.heads.read_in_branches(tokens, self.windows, self._attend)

    def _attend(self, tokens: torch.Tensor, heads: Heads, side: int) -> torch.Tensor:
        batch, *sizes, _ = tokens.shape
        window = fit_window(sizes, side)
        halo = min(self.halo, *window)
        if has_kernel(tokens, heads, "overlap"):
            return self._attend_fused(tokens, heads, window, halo)
        padded = pad_tokens(tokens, window)
        queries, keys, values = heads.split(padded)
        queries = cut_windows(queries, window)
        keys, values = (cut_windows(part, window, halo=halo) for part in (keys, values))
        count, area = queries.shape[1:3]
        bias = key_bias(sizes, window, halo=halo)
        if bias is not None:
            bias = repeat_batch(bias, batch, keys)
        local = attend(
            *(part.flatten(0, 1) for part in (queries, keys, values)),
            kv_heads=heads.kv_heads,
            bias=bias,
        ).reshape(batch, count, area, -1)
        if self.exchange:
            local = exchange(
                local,
                pool_windows(padded, sizes, window),
                heads,
                counts=count_windows(padded, window),
                grid=self.grid,
            )
        return crop_tokens(join_windows(local, padded.shape[1:-1], window), sizes)

    def _attend_fused(
        self, tokens: torch.Tensor, heads: Heads, window: tuple[int, ...], halo: int
    ) -> torch.Tensor:
        read = read_windows(tokens, heads, window, halo=halo)
        if not self.exchange:
            return read
        means = pool_windows(pad_tokens(tokens, window), tokens.shape[1:-1], window)
        return exchange_map(read, means, heads, window=window, grid=self.grid)


def create(level: LevelSpec) -> OverlapAttention:
    """Mechanism of a level's spec."""
    heads = Heads(level.num_heads, level.head_dim, level.kv_heads)
    return OverlapAttention(
        heads,
        windows=level.windows,
        halo=level.halo,
        exchange=level.exchange,
        grid=level.grid,
    )
