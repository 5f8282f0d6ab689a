"""The exchange across windows: their means attend to each other, with the same weights."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from bedside.layers.attention.heads import Heads, attend
from bedside.layers.windows import (
    count_windows,
    crop_tokens,
    cut_windows,
    fit_window,
    join_windows,
    pad_tokens,
    pool_windows,
)


def exchange(
    local: torch.Tensor,
    means: torch.Tensor,
    heads: Heads,
    *,
    counts: Sequence[int],
    grid: int,
) -> torch.Tensor:
    """Add to all tokens of each window what its mean token reads from the others'.

    It has reach and no weights: means of queries, keys and values are what the same
    projection would give of a window's mean. Where there are more than `grid` windows
    along an axis, keys and values are pooled to at most so many, so that the cost grows with
    the number of windows and not with its square.

    Args:
        local: (B, windows, N, heads * d), what each token has read in its window.
        means: (B, windows, C), means of queries, keys and values over each window.
        heads: How C divides.
        counts: Windows along each axis.
        grid: Keys along each axis, at most.

    Returns:
        Like `local`.

    Source:
        Ours.

    Example:
        >>> means = torch.tensor([[[0.0, 0.0, 2.0], [0.0, 0.0, 4.0]]])
        >>> heads = Heads(num_heads=1, head_dim=1)
        >>> exchange(torch.zeros(1, 2, 1, 1), means, heads, counts=(2,), grid=8).tolist()
        [[[[3.0]], [[3.0]]]]
    """
    if means.shape[1] == 1:
        return local
    return local + read_means(means, heads, counts=counts, grid=grid).unsqueeze(2)


def exchange_map(
    read: torch.Tensor,
    means: torch.Tensor,
    heads: Heads,
    *,
    window: Sequence[int],
    grid: int,
) -> torch.Tensor:
    """Do the same for tokens that were not cut into windows.

    Args:
        read: (B, *S, heads * d), what each token has read.
        means: As in `exchange`.
        heads: How C divides.
        window: Side of a window along each axis.
        grid: Keys along each axis, at most.

    Returns:
        Like `read`.

    Example:
        >>> means = torch.tensor([[[0.0, 0.0, 2.0], [0.0, 0.0, 4.0]]])
        >>> heads = Heads(num_heads=1, head_dim=1)
        >>> exchange_map(torch.zeros(1, 3, 1), means, heads, window=(2,), grid=8).flatten().tolist()
        [3.0, 3.0, 3.0]
    """
    if means.shape[1] == 1:
        return read
    sizes = read.shape[1:-1]
    counts = [-(-size // side) for size, side in zip(sizes, window, strict=True)]
    update = read_means(means, heads, counts=counts, grid=grid)
    update = update.reshape(len(read), *counts, -1)
    for axis, side in enumerate(window, 1):
        update = update.repeat_interleave(side, dim=axis)
    return read + crop_tokens(update, sizes)


def read_means(
    means: torch.Tensor, heads: Heads, *, counts: Sequence[int], grid: int
) -> torch.Tensor:
    """Let means of windows attend to each other, or to means of their means.

    Args:
        means: As in `exchange`.
        heads: How C divides.
        counts: Windows along each axis.
        grid: Keys along each axis, at most.

    Returns:
        (B, windows, heads * d).
    """
    queries, keys, values = heads.split(means)
    cell = [math.ceil(count / grid) for count in counts]
    if max(cell) > 1:
        keys, values = (_pool(part, counts, cell) for part in (keys, values))
    return attend(queries, keys, values, kv_heads=heads.kv_heads)


@dataclass(frozen=True)
class Exchanging:
    """A mechanism without windows, and an exchange of windows' means added to it.

    Attributes:
        mechanism: From (B, *S, C) to (B, *S, heads * d).
        heads: How C divides.
        window: Side of the windows whose means attend to each other.
        grid: Means along each axis that are attended to, at most.

    Example:
        >>> heads = Heads(num_heads=2, head_dim=4)
        >>> attention = Exchanging(lambda tokens: tokens[..., :8], heads, window=4, grid=8)
        >>> attention(torch.rand(1, 6, 9, 16)).shape
        torch.Size([1, 6, 9, 8])
    """

    mechanism: Callable[[torch.Tensor], torch.Tensor]
    heads: Heads
    window: int
    grid: int

    def __call__(self, tokens: torch.Tensor) -> torch.Tensor:
        """Turn (B, *S, C) into (B, *S, heads * d)."""
        sizes = tokens.shape[1:-1]
        side = fit_window(sizes, self.window)
        padded = pad_tokens(tokens, side)
        joined = exchange(
            cut_windows(pad_tokens(self.mechanism(tokens), side), side),
            pool_windows(padded, sizes, side),
            self.heads,
            counts=count_windows(padded, side),
            grid=self.grid,
        )
        return crop_tokens(join_windows(joined, padded.shape[1:-1], side), sizes)


def _pool(means: torch.Tensor, counts: Sequence[int], cell: Sequence[int]) -> torch.Tensor:
    """Average (B, windows, C) over cells of windows."""
    grid = means.reshape(means.shape[0], *counts, means.shape[-1])
    return pool_windows(pad_tokens(grid, cell), counts, cell)
