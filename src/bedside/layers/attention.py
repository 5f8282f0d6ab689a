"""Window attention in its cheap form: 1x1 convolutions with batch norm, one shared K/V head.

Positions come from the depthwise convolution of each block, so no bias table is needed and
any number of windows works.
"""

import torch
from torch import nn

from bedside.layers.conv import ConvNorm


def attend(queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """Let several query heads read one head of keys and values.

    The heads are folded into rows, so that one matrix product serves them all and
    nothing is transposed. Queries carry their scale already.

    Args:
        queries: (G, N, heads * d).
        keys: (G, M, d).
        values: (G, M, d).

    Returns:
        (G, N, heads * d).

    Source:
        Shazeer, Fast Transformer Decoding, arXiv:1911.02150.

    Example:
        >>> uniform = attend(torch.zeros(1, 2, 6), torch.ones(1, 4, 3), torch.ones(1, 4, 3))
        >>> bool((uniform - 1).abs().max() < 1e-6)
        True
    """
    groups, tokens, width = queries.shape
    rows = queries.reshape(groups, tokens * (width // keys.shape[-1]), keys.shape[-1])
    weights = (rows @ keys.transpose(1, 2)).softmax(dim=-1)
    return (weights @ values).reshape(groups, tokens, width)


def to_windows(x: torch.Tensor, window: int) -> torch.Tensor:
    """Cut a feature map into windows of tokens.

    Channels go last first: convolutions run channels-last, so that step moves nothing.

    Args:
        x: (B, C, H, W); H and W are multiples of `window`.
        window: Side of a window in tokens.

    Returns:
        (B, windows, window * window, C), windows and tokens in reading order.
    """
    batch, channels, height, width = x.shape
    tokens = x.permute(0, 2, 3, 1)
    grid = tokens.reshape(batch, height // window, window, width // window, window, channels)
    return grid.transpose(2, 3).reshape(batch, -1, window * window, channels)


def from_windows(tokens: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Put windows back into a feature map; undoes `to_windows`.

    Args:
        tokens: (B, windows, window * window, C).
        height: Height of the map in tokens.
        width: Width of the map in tokens.

    Returns:
        (B, C, height, width).

    Example:
        >>> x = torch.arange(64.0).reshape(1, 1, 8, 8)
        >>> bool((from_windows(to_windows(x, 4), 8, 8) == x).all())
        True
    """
    batch, _, area, channels = tokens.shape
    window = int(area**0.5)
    grid = tokens.reshape(batch, height // window, width // window, window, window, channels)
    image = grid.transpose(2, 3).reshape(batch, height, width, channels)
    return image.permute(0, 3, 1, 2)


class WindowAttention(nn.Module):
    """Attention inside windows, with the windows' means attending to each other.

    The exchange pools queries, keys and values over each window, lets the pooled tokens
    attend to one another, and adds what each has read to all tokens of its window. It
    shares every weight with the local attention, so it adds reach and no parameters.

    Args:
        channels: Channels in and out.
        num_heads: Query heads; keys and values have one head.
        head_dim: Channels of a head.
        window: Side of a window in tokens.
        exchange: Whether windows exchange pooled tokens.

    Source:
        Windows: Liu et al., Swin Transformer, ICCV 2021. The exchange on shared
        projections is ours.
    """

    def __init__(
        self, channels: int, *, num_heads: int, head_dim: int, window: int, exchange: bool
    ) -> None:
        super().__init__()
        self.widths = [num_heads * head_dim, head_dim, head_dim]
        self.window = window
        self.exchange = exchange
        self.project_in = ConvNorm(channels, sum(self.widths), activation=False)
        self.project_out = ConvNorm(num_heads * head_dim, channels, activation=False)
        with torch.no_grad():
            # The usual scale of queries, 1 / sqrt(d), starts inside the batch norm.
            self.project_in.norm.weight[: self.widths[0]] *= head_dim**-0.5

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Transform (B, C, H, W) into the same shape; H and W are multiples of the window."""
        batch, _, height, width = x.shape
        tokens = to_windows(self.project_in(x), self.window)
        windows, area = tokens.shape[1:3]
        flat = tokens.reshape(batch * windows, area, -1)
        local = attend(*torch.split(flat, self.widths, dim=-1)).reshape(batch, windows, area, -1)
        if self.exchange and windows > 1:
            pooled = tokens.mean(dim=2)
            local = local + attend(*torch.split(pooled, self.widths, dim=-1)).unsqueeze(2)
        update: torch.Tensor = self.project_out(from_windows(local, height, width))
        return update


class TransformerBlock(nn.Module):
    """Window attention, then a depthwise 3x3 and a two-layer MLP, each added to its input.

    Args:
        channels: Channels in and out.
        num_heads: Query heads.
        head_dim: Channels of a head.
        window: Side of a window in tokens.
        exchange: Whether windows exchange pooled tokens.
        mlp_ratio: Hidden width of the MLP over `channels`.
    """

    def __init__(
        self,
        channels: int,
        *,
        num_heads: int,
        head_dim: int,
        window: int,
        exchange: bool,
        mlp_ratio: int,
    ) -> None:
        super().__init__()
        self.attention = WindowAttention(
            channels, num_heads=num_heads, head_dim=head_dim, window=window, exchange=exchange
        )
        self.spatial = ConvNorm(channels, channels, kernel=3, groups=channels, activation=False)
        self.expand = ConvNorm(channels, channels * mlp_ratio)
        self.project = ConvNorm(channels * mlp_ratio, channels, activation=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Transform (B, C, H, W) into the same shape."""
        x = x + self.attention(x)
        update: torch.Tensor = self.project(self.expand(self.spatial(x)))
        return x + update
