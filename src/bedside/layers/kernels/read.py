"""What tokens read from windows or regions, by the kernel."""

from collections.abc import Sequence

import torch

from bedside.layers.attention.heads import Heads
from bedside.layers.kernels.ops import sparse_attention


def read_windows(
    tokens: torch.Tensor, heads: Heads, window: Sequence[int], *, halo: int = 0
) -> torch.Tensor:
    """Let each token attend to those of its window, and of a halo around it.

    Args:
        tokens: (B, *S, C).
        heads: How C divides.
        window: Side of a window along each axis; at most the map's.
        halo: Tokens seen beyond it, on each side; at most the window's side.

    Returns:
        (B, *S, heads * d).
    """
    read: torch.Tensor = sparse_attention(tokens, None, None, _numbers(heads), list(window), halo)[
        0
    ]
    return read


def read_regions(
    tokens: torch.Tensor,
    heads: Heads,
    window: Sequence[int],
    *,
    chosen: torch.Tensor,
    gate: torch.Tensor | None,
) -> torch.Tensor:
    """Let each token attend to those of the regions that its region has chosen.

    Args:
        tokens: (B, *S, C).
        heads: How C divides.
        window: Side of a region along each axis; at most the map's.
        chosen: (B, regions, k) int64.
        gate: (B, regions, k), in (0, 1]; None where all weigh alike.

    Returns:
        (B, *S, heads * d).
    """
    gate = None if gate is None else gate.float()
    read: torch.Tensor
    read, _ = sparse_attention(tokens, chosen, gate, _numbers(heads), list(window), 0)
    return read


def _numbers(heads: Heads) -> list[int]:
    return [heads.num_heads, heads.head_dim, heads.kv_heads]
