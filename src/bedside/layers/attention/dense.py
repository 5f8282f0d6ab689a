"""Dense attention: every token to every token, O(n^2); the baseline of the others."""

from dataclasses import dataclass

import torch

from bedside.layers.attention.heads import Heads
from bedside.spec import LevelSpec


@dataclass(frozen=True)
class DenseAttention:
    """Each token attends to all.

    Attributes:
        heads: How channels divide.

    Source:
        Vaswani et al., Attention Is All You Need, NeurIPS 2017.

    Example:
        >>> DenseAttention(Heads(num_heads=2, head_dim=4))(torch.rand(1, 3, 5, 16)).shape
        torch.Size([1, 3, 5, 8])
    """

    heads: Heads

    def __call__(self, tokens: torch.Tensor) -> torch.Tensor:
        """Turn (B, *S, C) into (B, *S, heads * d)."""
        batch, *sizes, channels = tokens.shape
        read = self.heads.attend(tokens.reshape(batch, -1, channels))
        return read.reshape(batch, *sizes, -1)


def create(level: LevelSpec) -> DenseAttention:
    """Mechanism of a level's spec."""
    return DenseAttention(Heads(level.num_heads, level.head_dim, level.kv_heads))
