"""What the kernels are timed against: all turn (B, *S, C) into (B, *S, heads * d).

Windows are folded for those that need them, within the time; masks are made once, outside it.
"""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Any

import torch
from torch.nn import functional
from torch.nn.attention import flex_attention as flex

import gpu_kernel_checks as checks
from bedside.layers.attention.heads import attend, fold, unfold
from bedside.layers.windows import cut_windows, join_windows, key_bias, pad_tokens
from gpu_kernel_checks import Case

Call = Callable[[torch.Tensor], torch.Tensor]


def make_kernel(case: Case) -> Call:
    """The kernel."""
    return lambda tokens: checks.run_kernel(case, tokens, case.gate)


def make_plain(case: Case) -> Call:
    """The layers' plain form, as it runs without a kernel."""
    shape = case.shape
    bias = key_bias(shape.sizes, shape.window, halo=shape.halo)
    if bias is not None:
        bias = bias.to(case.tokens.device).repeat(shape.batch, 1, 1)

    def run(tokens: torch.Tensor) -> torch.Tensor:
        queries, keys, values, join = _cut(case, tokens)
        gate, own = None, bias
        if case.chosen is not None:
            area = queries.shape[1]
            gate = case.gate.to(tokens.dtype).flatten(0, 1).repeat_interleave(area, 1).unsqueeze(-1)
            own = None if bias is None else _choose(case, bias)
        return join(
            attend(queries, keys, values, kv_heads=shape.heads.kv_heads, bias=own, gate=gate)
        )

    return run


def make_sdpa(case: Case) -> Call:
    """Torch's scaled_dot_product_attention on folded windows, the folding compiled."""
    heads = case.shape.heads
    mask = checks.make_mask(case, case.gate, case.tokens.dtype)
    if mask is not None:
        mask = mask.flatten(0, 1)[:, None, None].contiguous()

    def run(tokens: torch.Tensor) -> torch.Tensor:
        queries, keys, values, join = _cut(case, tokens)
        rows, keys, values = (
            fold(part, heads.kv_heads, heads.head_dim) for part in (queries, keys, values)
        )
        if heads.kv_heads == 1:
            rows, keys, values = (part.unsqueeze(1) for part in (rows, keys, values))
        own = None if mask is None else mask.expand(-1, rows.shape[1], rows.shape[2], -1)
        read = functional.scaled_dot_product_attention(rows, keys, values, own, scale=1.0)
        return join(unfold(read.squeeze(1) if heads.kv_heads == 1 else read, queries.shape[1]))

    return torch.compile(run, dynamic=False)


def make_flex(case: Case) -> Call:
    """Compiled FlexAttention on tokens in the order of windows, its block mask made before."""
    shape, heads = case.shape, case.shape.heads
    device = case.tokens.device
    place = _window_order(case, device)
    window = torch.tensor(shape.window, device=device)
    sizes = torch.tensor(shape.sizes, device=device)
    home = place // window
    low, high = home * window - shape.halo, (home + 1) * window + shape.halo
    inside = (place < sizes).all(1)
    area = int(window.prod())
    bonus = None
    if case.chosen is not None:
        regions = case.chosen.shape[1]
        bonus = torch.full((shape.batch, regions, regions), -torch.inf, device=device)
        bonus.scatter_(2, case.chosen, case.gate.log())

    def sees(image: Any, head: Any, query: Any, key: Any) -> Any:
        if bonus is not None:
            return (bonus[image, query // area, key // area] > -torch.inf) & inside[key]
        seen = inside[key]
        for axis in range(len(shape.sizes)):
            at = place[key, axis]
            seen = seen & (at >= low[query, axis]) & (at < high[query, axis])
        return seen

    def weigh(score: Any, image: Any, head: Any, query: Any, key: Any) -> Any:
        return score + bonus[image, query // area, key // area]

    count = len(place)
    images = None if bonus is None else shape.batch
    mask = flex.create_block_mask(sees, images, None, count, count, device=device, _compile=True)

    def run(tokens: torch.Tensor) -> torch.Tensor:
        padded = pad_tokens(tokens, shape.window)
        queries, keys, values = (
            part.flatten(1, 2).unflatten(-1, (-1, heads.head_dim)).transpose(1, 2)
            for part in heads.split(cut_windows(padded, shape.window))
        )
        read = flex.flex_attention(
            queries, keys, values, block_mask=mask, scale=1.0, enable_gqa=True,
            score_mod=None if bonus is None else weigh,
        )  # fmt: skip
        local = read.transpose(1, 2).flatten(2).unflatten(1, (-1, area))
        return _crop(join_windows(local, padded.shape[1:-1], shape.window), shape.sizes)

    return torch.compile(run, dynamic=False)


def make_natten(case: Case) -> Call:
    """NATTEN's neighbourhoods of a window's size, moved by whole windows; not at the border."""
    if find_spec("natten") is None:
        raise RuntimeError("NATTEN is not installed")
    if case.chosen is not None or any(
        size % side for size, side in zip(case.shape.sizes, case.shape.window, strict=True)
    ):
        raise RuntimeError("NATTEN has no such form")
    from natten import functional as natten

    shape, heads = case.shape, case.shape.heads
    attention = natten.na2d if len(shape.sizes) == 2 else natten.na3d
    kernel = tuple(side + 2 * shape.halo for side in shape.window)

    def run(tokens: torch.Tensor) -> torch.Tensor:
        queries, keys, values = (
            part.unflatten(-1, (-1, heads.head_dim)) for part in heads.split(tokens)
        )
        group = heads.num_heads // heads.kv_heads
        keys, values = (part.repeat_interleave(group, -2) for part in (keys, values))
        read: torch.Tensor = attention(
            queries, keys, values, kernel_size=kernel, stride=shape.window, scale=1.0
        )
        return read.flatten(-2)

    return run


RIVALS = {
    "kernel": make_kernel,
    "plain": make_plain,
    "SDPA": make_sdpa,
    "FlexAttention": make_flex,
    "NATTEN": make_natten,
}
"""Column of the table -> how its call is made."""


def _cut(case: Case, tokens: torch.Tensor) -> tuple[Any, ...]:
    """Queries, keys and values of windows, (G, N, C), and what joins the windows again."""
    shape, heads = case.shape, case.shape.heads
    padded = pad_tokens(tokens, shape.window)
    queries, keys, values = heads.split(padded)
    queries = cut_windows(queries, shape.window)
    keys, values = (cut_windows(part, shape.window, halo=shape.halo) for part in (keys, values))
    batch, regions, area, _ = queries.shape
    if case.chosen is not None:
        rows = torch.arange(batch, device=tokens.device)[:, None, None]
        keys, values = (part[rows, case.chosen].flatten(2, 3) for part in (keys, values))

    def join(local: torch.Tensor) -> torch.Tensor:
        cut = local.reshape(batch, regions, area, -1)
        return _crop(join_windows(cut, padded.shape[1:-1], shape.window), shape.sizes)

    return *(part.flatten(0, 1) for part in (queries, keys, values)), join


def _choose(case: Case, bias: torch.Tensor) -> torch.Tensor:
    """Bias of the chosen regions' keys, (G, 1, k * N)."""
    chosen = case.chosen
    assert chosen is not None
    return bias[: chosen.shape[1], 0][chosen].flatten(2).flatten(0, 1).unsqueeze(1)


def _crop(joined: torch.Tensor, sizes: tuple[int, ...]) -> torch.Tensor:
    """Cut off what was padded."""
    return joined[(slice(None), *(slice(size) for size in sizes))]


def _window_order(case: Case, device: torch.device) -> torch.Tensor:
    """Coordinates of the padded map's tokens in the order of windows, (N, axes)."""
    shape = case.shape
    padded = [n * side for n, side in zip(shape.counts, shape.window, strict=True)]
    axes = [torch.arange(size, device=device) for size in padded]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).unsqueeze(0)
    return cut_windows(grid, shape.window).flatten(0, 2)
