"""Linear attention: keys and values summed up before queries read them; global, no softmax."""

from dataclasses import dataclass

import torch

from bedside.layers.attention.heads import Heads, fold, unfold
from bedside.spec import LevelSpec

# A query whose positive part meets no key's reads nothing, instead of rounding errors.
WEIGHT_FLOOR = 1e-3


@dataclass(frozen=True)
class LinearAttention:
    """Each token reads all others, weighted by the product of the positive parts.

    Attributes:
        heads: How channels divide.

    Source:
        Katharopoulos et al., Transformers are RNNs, ICML 2020; ReLU as the kernel as in
        Cai et al., EfficientViT, ICCV 2023. The floor is ours.

    Example:
        >>> attention = LinearAttention(Heads(num_heads=1, head_dim=1))
        >>> tokens = torch.tensor([[[1.0, 1.0, 2.0], [-1.0, 1.0, 4.0]]])
        >>> [round(value, 2) for value in attention(tokens)[0, :, 0].tolist()]
        [3.0, 0.0]
    """

    heads: Heads

    def __call__(self, tokens: torch.Tensor) -> torch.Tensor:
        """Turn (B, *S, C) into (B, *S, heads * d)."""
        batch, *sizes, channels = tokens.shape
        flat = tokens.reshape(batch, -1, channels)
        queries, keys, values = (
            fold(part, self.heads.kv_heads, self.heads.head_dim) for part in self.heads.split(flat)
        )
        queries, keys = queries.relu(), keys.relu()
        summary = keys.transpose(-1, -2) @ (values * (1 / values.shape[-2]))
        total = queries @ keys.mean(dim=-2, keepdim=True).transpose(-1, -2)
        read = unfold((queries @ summary) / (total + WEIGHT_FLOOR), flat.shape[1])
        return read.reshape(batch, *sizes, -1)


def create(level: LevelSpec) -> LinearAttention:
    """Mechanism of a level's spec."""
    return LinearAttention(Heads(level.num_heads, level.head_dim, level.kv_heads))
