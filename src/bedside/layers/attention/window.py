"""Attention inside windows; their sizes may differ from head to head."""

from dataclasses import dataclass

import torch

from bedside.layers.attention.exchange import exchange, exchange_map
from bedside.layers.attention.heads import Heads
from bedside.layers.kernels import has_kernel, read_windows
from bedside.layers.windows import (
    count_windows,
    crop_tokens,
    cut_windows,
    fit_window,
    join_windows,
    key_bias,
    mean_scale,
    pad_tokens,
    pool_windows,
    repeat_batch,
)
from bedside.spec import LevelSpec


@dataclass(frozen=True)
class WindowAttention:
    """Each token attends to those of its window.

    Attributes:
        heads: How channels divide.
        windows: Side of a window; several share the query heads among them.
        exchange: Whether the windows' means attend to each other.
        grid: Means along each axis that are attended to, at most.

    Source:
        Liu et al., Swin Transformer, ICCV 2021.

    Example:
        >>> attention = WindowAttention(Heads(num_heads=2, head_dim=4), windows=(2, 4))
        >>> attention(torch.rand(1, 5, 7, 16)).shape
        torch.Size([1, 5, 7, 8])
    """

    heads: Heads
    windows: tuple[int, ...]
    exchange: bool = False
    grid: int = 8

    def __call__(self, tokens: torch.Tensor) -> torch.Tensor:
        """Turn (B, *S, C) into (B, *S, heads * d)."""
        return self.heads.read_in_branches(tokens, self.windows, self._attend)

    def _attend(self, tokens: torch.Tensor, heads: Heads, side: int) -> torch.Tensor:
        batch, *sizes, _ = tokens.shape
        window = fit_window(sizes, side)
        if has_kernel(tokens, heads, "window"):
            return self._attend_fused(tokens, heads, window)
        padded = pad_tokens(tokens, window)
        cut = cut_windows(padded, window)
        count, area = cut.shape[1:3]
        bias = key_bias(sizes, window)
        if bias is not None:
            bias = repeat_batch(bias, batch, cut)
        flat = cut.reshape(batch * count, area, -1)
        local = heads.attend(flat, bias=bias).reshape(batch, count, area, -1)
        if self.exchange:
            means, scale = cut.mean(dim=2), mean_scale(sizes, window)
            means = means if scale is None else means * scale.to(means)
            local = exchange(
                local, means, heads, counts=count_windows(padded, window), grid=self.grid
            )
        return crop_tokens(join_windows(local, padded.shape[1:-1], window), sizes)

    def _attend_fused(
        self, tokens: torch.Tensor, heads: Heads, window: tuple[int, ...]
    ) -> torch.Tensor:
        read = read_windows(tokens, heads, window)
        if not self.exchange:
            return read
        means = pool_windows(pad_tokens(tokens, window), tokens.shape[1:-1], window)
        return exchange_map(read, means, heads, window=window, grid=self.grid)


def create(level: LevelSpec) -> WindowAttention:
    """Mechanism of a level's spec."""
    heads = Heads(level.num_heads, level.head_dim, level.kv_heads)
    return WindowAttention(heads, windows=level.windows, exchange=level.exchange, grid=level.grid)
