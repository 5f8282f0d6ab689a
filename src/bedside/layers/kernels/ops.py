"""Sparse attention as an operation of torch: what autograd and `torch.compile` see.

Triton is imported at the first call, so that nobody needs it who does not call.
"""

from collections.abc import Sequence
from typing import Any

import torch

from bedside.layers.kernels.geometry import Geometry
from bedside.layers.kernels.tiles import BACKWARD, TILES, Tiles


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
        (B, *S, heads * d) of the tokens' precision, and what the backward pass needs: highest
        score and sum of weights of each row, (2, B, *S, heads) f32.
    """
    from bedside.layers.kernels.device import attend_forward

    geometry = Geometry.of(tokens, chosen, heads, window, halo)
    out, sums = _allocate(tokens, heads)
    tiles = geometry.fit(TILES[tokens.dtype][heads[1]])
    attend_forward[_grid(geometry, geometry.rows, tiles.rows)](
        tokens,
        out,
        sums,
        tokens if chosen is None else chosen.contiguous(),
        tokens if gate is None else gate.contiguous(),
        *_numbers(geometry),
        gated=gate is not None,
        **_settings(tokens, geometry, tiles),
    )
    return out, sums


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


@torch.library.custom_op("bedside::sparse_attention_backward", mutates_args=())
def sparse_attention_backward(  # noqa: PLR0913 - an operation of torch has flat arguments
    grad: torch.Tensor,
    tokens: torch.Tensor,
    chosen: torch.Tensor | None,
    gate: torch.Tensor | None,
    out: torch.Tensor,
    sums: torch.Tensor,
    heads: Sequence[int],
    window: Sequence[int],
    halo: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients of `sparse_attention`, the same bits every time.

    Args:
        grad: Of what was read, (B, *S, heads * d).
        tokens: As in the forward pass, and all that follow likewise.
        chosen: Regions.
        gate: Their gates.
        out: What was read.
        sums: Highest scores and sums.
        heads: Heads.
        window: Sides.
        halo: Halo.

    Returns:
        Gradients of the tokens, (B, *S, C), and of the gates; empty where there are none.
    """
    from bedside.layers.kernels.device_backward import attend_backward_keys, attend_backward_rows

    geometry = Geometry.of(tokens, chosen, heads, window, halo)
    grad = grad.contiguous()
    of_tokens, of_gate = _allocate_back(tokens, gate)
    delta = torch.empty_like(sums[0])
    largest = BACKWARD[tokens.dtype][heads[1]]
    tiles = geometry.fit(largest)
    grid = _grid(geometry, geometry.rows, tiles.rows)
    routes = tokens if chosen is None else chosen.contiguous()
    gates = tokens if gate is None else gate.contiguous()
    # What each program's rows give each key's gate, to be summed in order.
    parts = sums.new_empty((geometry.batch, geometry.regions, grid[1], geometry.seen)
                          if gate is not None else (0,))  # fmt: skip
    attend_backward_rows[grid](
        tokens, out, grad, sums, delta, of_tokens, parts, routes, gates,
        *_numbers(geometry), gated=gate is not None, **_settings(tokens, geometry, tiles),
    )  # fmt: skip
    if gate is not None:
        of_gate = parts.reshape(*parts.shape[:3], geometry.top_k, geometry.area).sum((2, 4))
    readers, bounds = (tokens, tokens) if chosen is None else _invert(chosen)
    tiles = geometry.fit(largest, seen=geometry.area)
    attend_backward_keys[_grid(geometry, geometry.area, tiles.keys)](
        tokens, grad, sums, delta, of_tokens, readers, bounds, gates,
        *_numbers(geometry), gated=gate is not None, **_settings(tokens, geometry, tiles),
    )  # fmt: skip
    return of_tokens, of_gate


@sparse_attention_backward.register_fake
def _(  # noqa: PLR0913 - as above
    grad: torch.Tensor,
    tokens: torch.Tensor,
    chosen: torch.Tensor | None,
    gate: torch.Tensor | None,
    out: torch.Tensor,
    sums: torch.Tensor,
    heads: Sequence[int],
    window: Sequence[int],
    halo: int,
) -> tuple[torch.Tensor, torch.Tensor]:
    return _allocate_back(tokens, gate)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[torch.Tensor, torch.Tensor]) -> None:
    """Keep what the backward pass needs."""
    tokens, chosen, gate, ctx.heads, ctx.window, ctx.halo = inputs
    ctx.save_for_backward(tokens, chosen, gate, *output)


def _differentiate(
    ctx: Any, grad: torch.Tensor, _: torch.Tensor | None
) -> tuple[torch.Tensor | None, ...]:
    """Gradients of tokens and gates; the sums are no result of their own."""
    tokens, chosen, gate, out, sums = ctx.saved_tensors
    of_tokens, of_gate = sparse_attention_backward(
        grad, tokens, chosen, gate, out, sums, ctx.heads, ctx.window, ctx.halo
    )
    return of_tokens, None, of_gate if gate is not None else None, None, None, None


sparse_attention.register_autograd(_differentiate, setup_context=_keep)


def _invert(chosen: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Who chose each region: indices into `chosen`, by region, and where each region's begin.

    Args:
        chosen: (B, regions, k).

    Returns:
        (B * regions * k,) and (B * regions + 1,).

    Example:
        >>> [part.tolist() for part in _invert(torch.tensor([[[1, 0], [1, 2], [2, 1]]]))]
        [[1, 0, 2, 5, 3, 4], [0, 1, 4, 6]]
    """
    batch, regions, _ = chosen.shape
    first = torch.arange(batch, device=chosen.device)[:, None, None] * regions
    found, order = (chosen + first).flatten().sort(stable=True)
    numbers = torch.arange(batch * regions + 1, device=chosen.device)
    return order, torch.searchsorted(found, numbers)


def _grid(geometry: Geometry, count: int, tile: int) -> tuple[int, int, int]:
    """Programs: windows, tiles of each head of keys, images."""
    return geometry.regions, -(-count // tile) * geometry.kv_heads, geometry.batch


def _numbers(geometry: Geometry) -> tuple[tuple[int, ...], ...]:
    """What device code is told of a map when it runs."""
    return geometry.counts, geometry.sizes, geometry.strides


def _settings(tokens: torch.Tensor, geometry: Geometry, tiles: Tiles) -> dict[str, Any]:
    """What device code is compiled for."""
    return {
        **geometry.constants(),
        "rows": tiles.rows,
        "keys": tiles.keys,
        "split": tokens.dtype != torch.float32,
        "num_warps": tiles.warps,
        "num_stages": tiles.stages,
    }


def _allocate_back(
    tokens: torch.Tensor, gate: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Memory for the gradients of tokens and gates."""
    return tokens.new_empty(tokens.shape), tokens.new_empty(
        (0,) if gate is None else gate.shape, dtype=torch.float32
    )


def _allocate(tokens: torch.Tensor, heads: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Memory for what is read, and for the sums."""
    shape = tokens.shape[:-1]
    return (
        tokens.new_empty((*shape, heads[0] * heads[1])),
        tokens.new_empty((2, *shape, heads[0]), dtype=torch.float32),
    )
