"""Attention heads: query heads folded into rows, so that nothing is transposed."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch


def fold(x: torch.Tensor, kv_heads: int, width: int) -> torch.Tensor:
    """Turn heads into rows, those of each K/V head apart.

    Args:
        x: (G, N, heads * width).
        kv_heads: Heads of keys and values.
        width: Channels of a head.

    Returns:
        (G, N * heads, width), or (G, kv_heads, N * heads / kv_heads, width) if several.
    """
    groups, tokens, channels = x.shape
    if kv_heads == 1:
        return x.reshape(groups, tokens * (channels // width), width)
    apart = x.reshape(groups, tokens, kv_heads, channels // kv_heads).transpose(1, 2)
    return apart.reshape(groups, kv_heads, -1, width)


def unfold(rows: torch.Tensor, tokens: int) -> torch.Tensor:
    """Turn rows back into (G, tokens, heads * width); undoes `fold`.

    Example:
        >>> x = torch.arange(24.0).reshape(1, 3, 8)
        >>> bool((unfold(fold(x, 2, 2), 3) == x).all())
        True
    """
    if rows.ndim == 3:
        return rows.reshape(rows.shape[0], tokens, -1)
    groups, kv_heads = rows.shape[:2]
    apart = rows.reshape(groups, kv_heads, tokens, -1).transpose(1, 2)
    return apart.reshape(groups, tokens, -1)


def attend(
    queries: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    *,
    kv_heads: int = 1,
    bias: torch.Tensor | None = None,
    gate: torch.Tensor | None = None,
) -> torch.Tensor:
    """Let query heads read one shared head of keys and values, or a few.

    The heads are folded into rows, so that one matrix product serves them all and
    nothing is transposed. Queries carry their scale already.

    Args:
        queries: (G, N, heads * d).
        keys: (G, M, kv_heads * d).
        values: (G, M, kv_heads * d).
        kv_heads: Heads of keys and values; each serves as many query heads.
        bias: (G, 1, M), added to the scores of all queries and heads.
        gate: (G, M, 1), positive; multiplies the weight of each key before the weights
            are made to sum to 1.

    Returns:
        (G, N, heads * d).

    Source:
        Shazeer, Fast Transformer Decoding, arXiv:1911.02150; several heads of keys as in
        Ainslie et al., GQA, EMNLP 2023.

    Example:
        >>> uniform = attend(torch.zeros(1, 2, 6), torch.ones(1, 4, 3), torch.ones(1, 4, 3))
        >>> bool((uniform - 1).abs().max() < 1e-6)
        True
    """
    width = keys.shape[-1] // kv_heads
    rows, keys, values = (fold(part, kv_heads, width) for part in (queries, keys, values))
    if gate is not None:
        gate = gate if kv_heads == 1 else gate.unsqueeze(1) * gate.new_ones(kv_heads, 1, 1)
        values = torch.cat([values * gate, gate], dim=-1)
    scores = rows @ keys.transpose(-1, -2)
    if bias is not None:
        bias = bias.to(scores.dtype)
        scores = scores + (bias if kv_heads == 1 else bias.unsqueeze(1))
    read = scores.softmax(dim=-1) @ values
    if gate is not None:
        read = read[..., :width] / read[..., width:]
    return unfold(read, queries.shape[1])


@dataclass(frozen=True)
class Heads:
    """How the channels of projected tokens divide into queries, keys and values.

    Attributes:
        num_heads: Query heads.
        head_dim: Channels of a head.
        kv_heads: Heads of keys and values.
    """

    num_heads: int
    head_dim: int
    kv_heads: int = 1

    @property
    def widths(self) -> list[int]:
        """Channels of queries, keys and values."""
        kv_width = self.kv_heads * self.head_dim
        return [self.num_heads * self.head_dim, kv_width, kv_width]

    def split(self, tokens: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Return queries, keys and values of tokens.

        The map is flattened first: to split it in the layout of convolutions, a runtime may
        reorder all of it and back.

        Args:
            tokens: (B, *S, C).
        """
        shape = tokens.shape[:-1]
        flat = tokens.reshape(shape[0], -1, tokens.shape[-1])
        return tuple(
            part.reshape(*shape, width)
            for part, width in zip(torch.split(flat, self.widths, dim=-1), self.widths, strict=True)
        )

    def attend(
        self,
        tokens: torch.Tensor,
        *,
        bias: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Return what the tokens of each group read from each other, (G, N, heads * d).

        Args:
            tokens: (G, N, C).
            bias: Added to the scores, to hide keys.
        """
        queries, keys, values = self.split(tokens)
        return attend(queries, keys, values, kv_heads=self.kv_heads, bias=bias)

    def branch(self, tokens: torch.Tensor, count: int) -> list[tuple["Heads", torch.Tensor]]:
        """Return branches with an equal part of the query heads each, and their tokens (..., C').

        Args:
            tokens: (..., C).
            count: Number of branches.
        """
        if count == 1:
            return [(self, tokens)]
        queries, keys, values = self.split(tokens)
        kv_heads = max(1, self.kv_heads // count)
        heads = replace(self, num_heads=self.num_heads // count, kv_heads=kv_heads)
        share = [part.chunk(count, dim=-1) for part in (queries, keys, values)]
        if self.kv_heads == 1:
            share[1:] = [(keys,) * count, (values,) * count]
        return [(heads, torch.cat(parts, dim=-1)) for parts in zip(*share, strict=True)]

    def read_in_branches(
        self,
        tokens: torch.Tensor,
        windows: Sequence[int],
        attend_in: Callable[[torch.Tensor, "Heads", int], torch.Tensor],
    ) -> torch.Tensor:
        """Return the joined outputs of branches of heads, each with windows of its own size.

        Args:
            tokens: (B, *S, C).
            windows: Side of a window, a branch each.
            attend_in: From tokens, heads and a side to (B, *S, heads * d).
        """
        branches = self.branch(tokens, len(windows))
        read = [
            attend_in(part, heads, side)
            for (heads, part), side in zip(branches, windows, strict=True)
        ]
        return read[0] if len(read) == 1 else torch.cat(read, dim=-1)
