"""Sparse attention as an operation of torch: what autograd and `torch.compile` see.

Triton is imported at the first call, so that nobody needs it who does not call.
"""

from collections.abc import Sequence

import torch

from bedside.layers.kernels.geometry import Geometry


@torch.library.custom_op("bedside::sparse_attention", mutates_args=())
def sparse_attention(
    tokens: torch.Tensor,
    chosen: torch.Tensor | None,
    gate: torch.Tensor | None,
    heads: Sequence[int],
    window: Sequence[int],
    halo: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """What each token reads from those of its window, or of the regions chosen for it.

    Keys outside the map are not seen, so the map may have any size.

    Args:
        tokens: (B, *S, C), queries, keys and values, of f16, bf16 or f32 and any strides.
            Queries carry their scale already.
        chosen: (B, regions, k) int64, the regions that each region sees; None for windows.
        gate: (B, regions, k) f32, positive; multiplies the weight of each key. None for 1.
        heads: Query heads, channels of a head (16, 32 or 64), heads of keys and values.
        window: Side of a window or region along each axis.
        halo: Tokens seen beyond a window on each side, at most its side; 0 with `chosen`.

    Returns:
        (B, *S, heads * d) of the tokens' precision, and the logarithm of the sum of each
        row's weights, (B, *S, heads) f32.
    """
    from bedside.layers.kernels.device import attend_forward

    geometry = Geometry.of(tokens, chosen, heads, window, halo)
    out, lse = _allocate(tokens, heads)
    constants = geometry.constants(tokens.dtype)
    tiles = geometry.tiles(tokens.dtype)
    programs = -(-geometry.rows // tiles.rows) * geometry.kv_heads
    attend_forward[(geometry.regions, programs, geometry.batch)](
        tokens,
        out,
        lse,
        tokens if chosen is None else chosen.contiguous(),
        tokens if gate is None else gate.contiguous(),
        geometry.counts,
        geometry.sizes,
        geometry.strides,
        gated=gate is not None,
        num_warps=tiles.warps,
        num_stages=tiles.stages,
        **constants,
    )
    return out, lse


@sparse_attention.register_fake
def _(
    tokens: torch.Tensor,
    chosen: torch.Tensor | None,
    gate: torch.Tensor | None,
    heads: Sequence[int],
    window: Sequence[int],
    halo: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    return _allocate(tokens, heads)


def _allocate(tokens: torch.Tensor, heads: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Memory for what is read, and for the logarithms."""
    shape = tokens.shape[:-1]
    return (
        tokens.new_empty((*shape, heads[0] * heads[1])),
        tokens.new_empty((*shape, heads[0]), dtype=torch.float32),
    )
