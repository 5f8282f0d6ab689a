"""Attention over the channels of an image, as a stem that takes the place of concatenation's."""

import torch
from torch import nn
from torch.nn import functional

from bedside.layers.conv import ConvNorm
from bedside.models import create
from bedside.models.hybrid import Hybrid
from bedside.spec import ModelSpec

HEADS = 4
_HIDDEN = -1e4
"""Added to the score of a channel that lacks; finite, so that an empty image stays a number."""


def find_present(x: torch.Tensor) -> torch.Tensor:
    """Find which channels of each image are there: those that are not 0 throughout.

    A sequence that a user does not give, and one that training leaves out, is 0 throughout.

    Args:
        x: (B, C, H, W).

    Returns:
        (B, C, 1, 1), 1 where a channel is there and 0 where it lacks.

    Example:
        >>> find_present(torch.stack([torch.zeros(2, 2), torch.eye(2)])[None]).flatten().tolist()
        [0.0, 1.0]
    """
    return (x.abs().amax(dim=(2, 3), keepdim=True) > 0).to(x.dtype)


class ChannelAttention(nn.Module):
    """Additive attention over channels at every position of a map.

    Each channel is a token there. Its score for each head comes from its own features and from
    the mean over the channels that are there; a softmax over these, and the sum of projected
    features by its weights. A channel that lacks has weight 0 whatever its features are.

    Args:
        features: Features of each channel in, and of the sum out.
        channels: Number of channels.
        heads: Heads, each of which weighs an equal part of the features.

    Source:
        Bahdanau et al., ICLR 2015, arXiv:1409.0473, with the mean of the tokens as the query
        and a ReLU for tanh.
    """

    def __init__(self, features: int, channels: int, *, heads: int = HEADS) -> None:
        super().__init__()
        self.repeats = features // heads
        self.key = nn.Conv2d(features, features // 2, 1)
        self.query = nn.Conv2d(features, features // 2, 1, bias=False)
        self.score = nn.Conv2d(features // 2, heads, 1, bias=False)
        # Each channel has a projection of its own: with equal weights this is concatenation
        # and a convolution over it.
        self.values = nn.ModuleList(nn.Conv2d(features, features, 1) for _ in range(channels))

    def forward(self, channels: list[torch.Tensor], present: torch.Tensor) -> torch.Tensor:
        """Fuse channels.

        Args:
            channels: (B, F, H, W) of each.
            present: (B, C, 1, 1), 1 where a channel is there and 0 where it lacks.

        Returns:
            (B, F, H, W).
        """
        # Channel by channel, since runtimes are slow with maps of five axes.
        there = present.split(1, dim=1)
        total = sum(x * here for x, here in zip(channels, there, strict=True))
        query = self.query(total / present.sum(1, keepdim=True).clamp(min=1))
        scores = [
            self.score(functional.relu(self.key(x) + query)) + (1 - here) * _HIDDEN
            for x, here in zip(channels, there, strict=True)
        ]
        weights = torch.stack(scores).softmax(dim=0)
        fused = torch.zeros_like(query[:, :1])
        for x, here, value, weight in zip(channels, there, self.values, weights, strict=True):
            fused = fused + value(x) * (weight * here).repeat_interleave(self.repeats, dim=1)
        return fused


class ChannelStem(nn.Module):
    """A stem to stride 4 that every channel passes on its own, and attention over them.

    Args:
        spec: Of the network that it is the stem of: two axes, and a stem of stride 4.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.first = ConvNorm(1, spec.stem_channels, kernel=3, stride=2)
        self.second = ConvNorm(spec.stem_channels, spec.levels[0].channels, kernel=3, stride=2)
        self.embedding = nn.Parameter(0.5 * torch.randn(spec.in_channels, spec.stem_channels))
        self.attention = ChannelAttention(spec.levels[0].channels, spec.in_channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Turn (B, C, H, W) into (B, F, H / 4, W / 4), sizes rounded up."""
        # All channels are one batch, channel by channel, so that norms are over all of them.
        tokens = self.first(x.transpose(0, 1).flatten(0, 1)[:, None])
        # The weights are shared; the embedding says which channel it is.
        embedding = self.embedding.repeat_interleave(len(x), dim=0)[:, :, None, None]
        tokens = self.second(tokens + embedding)
        return self.attention(list(tokens.chunk(x.shape[1])), find_present(x))


def create_with_attention(spec: ModelSpec) -> nn.Module:
    """Build the network of a spec with attention over channels in place of its stem.

    Args:
        spec: Of a hybrid network.
    """
    model = create(spec)
    if not isinstance(model, Hybrid):
        raise TypeError(f'architecture "{spec.architecture}" has no stem; expected "hybrid".')
    model.stem = ChannelStem(spec)  # type: ignore[assignment]
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]
