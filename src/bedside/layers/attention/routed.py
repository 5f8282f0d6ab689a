"""Routed attention: each region attends to the few regions that suit it by their content."""

from dataclasses import dataclass

import torch

from bedside.layers.attention.exchange import exchange, exchange_map
from bedside.layers.attention.heads import Heads, attend
from bedside.layers.kernels import has_kernel, read_regions
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

# Keeps gates above 0, and alike where all regions are: below differences of affinity that
# mean anything, above those that f32 makes by rounding.
GATE_FLOOR = 1e-5


@dataclass(frozen=True)
class RoutedAttention:
    """Each region of tokens attends to the regions whose mean keys suit its mean query.

    The chosen regions' keys are weighted by how far their affinity is above that of the
    first region left out. So the choice learns from the loss, and nothing jumps where two
    regions change places: a network in other precision, where they may, gives nearly the
    same.

    Attributes:
        heads: How channels divide.
        region: Side of a region in tokens.
        top_k: Number of regions that a region attends to.
        exchange: Whether the regions' means attend to each other.
        grid: Means along each axis that are attended to in the exchange, at most.

    Source:
        Zhu et al., BiFormer, CVPR 2023; the gate is ours.

    Example:
        >>> attention = RoutedAttention(Heads(num_heads=2, head_dim=4), region=4, top_k=2)
        >>> attention(torch.rand(1, 8, 14, 16)).shape
        torch.Size([1, 8, 14, 8])
    """

    heads: Heads
    region: int
    top_k: int
    exchange: bool = False
    grid: int = 8

    def __call__(self, tokens: torch.Tensor) -> torch.Tensor:
        """Turn (B, *S, C) into (B, *S, heads * d)."""
        batch, *sizes, _ = tokens.shape
        window = fit_window(sizes, self.region)
        padded = pad_tokens(tokens, window)
        if has_kernel(tokens, self.heads, "routed"):
            return self._attend_fused(tokens, pool_windows(padded, sizes, window), window)
        cut = cut_windows(padded, window)
        count, area = cut.shape[1:3]
        queries, keys, values = self.heads.split(cut)
        # Of windows that are cut already: a runtime turns a map around for a second reader.
        means, scale = cut.mean(dim=2), mean_scale(sizes, window)
        means = means if scale is None else means * scale.to(means)
        chosen, gate = self.route(means)
        if batch > 1:
            first = torch.arange(batch, device=chosen.device) * count
            chosen = chosen + first.reshape(-1, 1, 1)
        rows = torch.cat([keys, values], dim=-1).reshape(batch * count, -1)
        seen = rows.index_select(0, chosen.reshape(-1))
        keys, values = seen.reshape(batch * count, chosen.shape[2] * area, -1).chunk(2, dim=-1)
        local = attend(
            queries.reshape(batch * count, area, -1),
            keys,
            values,
            kv_heads=self.heads.kv_heads,
            bias=_choose_bias(key_bias(sizes, window), chosen, batch),
            gate=None if gate is None else _spread(gate, area),
        ).reshape(batch, count, area, -1)
        if self.exchange:
            local = exchange(
                local, means, self.heads, counts=count_windows(padded, window), grid=self.grid
            )
        return crop_tokens(join_windows(local, padded.shape[1:-1], window), sizes)

    def _attend_fused(
        self, tokens: torch.Tensor, means: torch.Tensor, window: tuple[int, ...]
    ) -> torch.Tensor:
        chosen, gate = self.route(means)
        read = read_regions(tokens, self.heads, window, chosen=chosen, gate=gate)
        if not self.exchange:
            return read
        return exchange_map(read, means, self.heads, window=window, grid=self.grid)

    def route(self, means: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Choose regions.

        Args:
            means: (B, regions, C), means of queries, keys and values over each region.

        Returns:
            The regions that each attends to, (B, regions, k) int64, best first, and their
            gates in (0, 1], the same shape; None where all regions are chosen.
        """
        heads, count = self.heads, means.shape[1]
        queries, keys, _ = heads.split(means)
        apart = queries.reshape(*queries.shape[:2], heads.kv_heads, -1, heads.head_dim)
        affinity = apart.mean(dim=3).flatten(2) @ keys.transpose(1, 2)
        if count <= self.top_k:
            return affinity.topk(count, dim=-1).indices, None
        best = affinity.topk(self.top_k + 1, dim=-1)
        above = best.values[..., : self.top_k] - best.values[..., self.top_k :]
        gate = (above + GATE_FLOOR) / (above[..., :1] + GATE_FLOOR)
        return best.indices[..., : self.top_k], gate


def create(level: LevelSpec) -> RoutedAttention:
    """Mechanism of a level's spec."""
    heads = Heads(level.num_heads, level.head_dim, level.kv_heads)
    return RoutedAttention(
        heads,
        region=level.region,
        top_k=level.top_k,
        exchange=level.exchange,
        grid=level.grid,
    )


def _spread(gate: torch.Tensor, area: int) -> torch.Tensor:
    """Return each key its region's gate: (B, R, k) to (B * R, k * area, 1)."""
    each = gate.unsqueeze(-1) * gate.new_ones(area)
    return each.reshape(gate.shape[0] * gate.shape[1], -1, 1)


def _choose_bias(
    bias: torch.Tensor | None, chosen: torch.Tensor, batch: int
) -> torch.Tensor | None:
    """Bias that hides padded keys of the chosen regions: (B * R, 1, k * area)."""
    if bias is None:
        return None
    rows = repeat_batch(bias, batch, chosen).flatten(1)
    return rows.index_select(0, chosen.reshape(-1)).reshape(chosen[..., 0].numel(), 1, -1)
