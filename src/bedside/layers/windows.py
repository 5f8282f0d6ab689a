"""Windows of token maps, in any number of axes, and back.

Tokens are channels-last, (B, *S, C): convolutions run in that layout already. Axes are cut
one after the other, so that no step permutes more than four, whatever the number of axes.
"""

import math
from collections.abc import Sequence

import torch

# Added to the scores of keys that must not be seen: exp() of it is 0 in every precision, and
# the sum of three of them still fits half precision.
HIDDEN = -1e4
Sizes = Sequence[int]


def to_tokens(x: torch.Tensor) -> torch.Tensor:
    """Turn (B, C, *S) into (B, *S, C)."""
    return x.permute(0, *range(2, x.ndim), 1)


def from_tokens(tokens: torch.Tensor) -> torch.Tensor:
    """Turn (B, *S, C) into (B, C, *S)."""
    return tokens.permute(0, tokens.ndim - 1, *range(1, tokens.ndim - 1))


def fit_window(sizes: Sizes, window: int) -> tuple[int, ...]:
    """Side of a window along each axis, at most the map's.

    Example:
        >>> fit_window((4, 20), 8)
        (4, 8)
    """
    return tuple(window if size >= window else size for size in sizes)


def count_windows(padded: torch.Tensor, window: Sizes) -> tuple[int, ...]:
    """Count the windows along each axis of (B, *S, C), a map of whole windows.

    Example:
        >>> count_windows(torch.zeros(1, 8, 12, 3), (4, 4))
        (2, 3)
    """
    return tuple(size // side for size, side in zip(padded.shape[1:-1], window, strict=True))


def pad_tokens(tokens: torch.Tensor, window: Sizes) -> torch.Tensor:
    """Pad with zeros at the end to whole windows; (B, *S, C)."""
    for axis, side in enumerate(window, 1):
        missing = -tokens.shape[axis] % side
        if missing:
            shape = [*tokens.shape[:axis], missing, *tokens.shape[axis + 1 :]]
            zeros = torch.zeros(shape, dtype=tokens.dtype, device=tokens.device)
            tokens = torch.cat([tokens, zeros], dim=axis)
    return tokens


def crop_tokens(tokens: torch.Tensor, sizes: Sizes) -> torch.Tensor:
    """Cut off what `pad_tokens` added; (B, *S, C)."""
    for axis, size in enumerate(sizes, 1):
        if tokens.shape[axis] != size:
            tokens = tokens.narrow(axis, 0, size)
    return tokens


def cut_windows(tokens: torch.Tensor, window: Sizes, *, halo: int = 0) -> torch.Tensor:
    """Cut a map of tokens into windows, each with a halo of its neighbours' tokens.

    At the border the halo wraps around; `key_bias` hides what came from there.

    Args:
        tokens: (B, *S, C); each size is a multiple of the window's.
        window: Side of a window along each axis.
        halo: Tokens on each side of a window; at most the window's side.

    Returns:
        (B, windows, tokens of a window with halo, C), both in reading order.

    Example:
        >>> x = torch.arange(8).reshape(1, 8, 1)
        >>> cut_windows(x, (4,), halo=1)[0, :, :, 0].tolist()
        [[7, 0, 1, 2, 3, 4], [3, 4, 5, 6, 7, 0]]
    """
    batch, channels = tokens.shape[0], tokens.shape[-1]
    sizes = tokens.shape[1:-1]
    cut = tokens.reshape(batch, 1, -1)
    groups, area = batch, 1
    for axis, side in enumerate(window):
        count = sizes[axis] // side
        rest = math.prod(sizes[axis + 1 :]) * channels
        if halo:
            cut = _add_halo(cut.reshape(groups, area, count, side, rest), halo)
            side = side + 2 * halo
        cut = cut.reshape(groups, area, count, side * rest).transpose(1, 2)
        groups, area = groups * count, area * side
    return cut.reshape(batch, -1, area, channels)


def join_windows(windows: torch.Tensor, sizes: Sizes, window: Sizes) -> torch.Tensor:
    """Join windows without halo into a map; inverse of `cut_windows`.

    Args:
        windows: (B, windows, tokens of a window, C).
        sizes: Size of the map; multiples of the window's.
        window: Side of a window along each axis.

    Returns:
        (B, *sizes, C).

    Example:
        >>> x = torch.arange(64).reshape(1, 4, 4, 4, 1)
        >>> bool((join_windows(cut_windows(x, (2, 2, 4)), (4, 4, 4), (2, 2, 4)) == x).all())
        True
    """
    batch, channels = windows.shape[0], windows.shape[-1]
    counts = [size // side for size, side in zip(sizes, window, strict=True)]
    joined = windows
    for axis in range(len(window) - 1, -1, -1):
        groups, area = batch * math.prod(counts[:axis]), math.prod(window[:axis])
        rest = math.prod(sizes[axis + 1 :]) * channels
        joined = joined.reshape(groups, counts[axis], area, window[axis] * rest).transpose(1, 2)
    return joined.reshape(batch, *sizes, channels)


def key_bias(sizes: Sizes, window: Sizes, *, halo: int = 0) -> torch.Tensor | None:
    """Bias that hides keys outside the map.

    Args:
        sizes: Size of the map before it was padded.
        window: Side of a window along each axis.
        halo: As it was cut with.

    Returns:
        (windows, 1, tokens of a window with halo): 0 or far below; None if nothing lies
        outside.

    Example:
        >>> key_bias((5,), (4,)).tolist()
        [[[0.0, 0.0, 0.0, 0.0]], [[0.0, -10000.0, -10000.0, -10000.0]]]
    """
    if not halo and not _is_padded(sizes, window):
        return None
    bias: torch.Tensor | None = None
    for size, side in zip(sizes, window, strict=True):
        first = torch.arange(-(-size // side)) * side - halo
        place = first[:, None] + torch.arange(side + 2 * halo)
        outside = torch.where((place < 0) | (place >= size), HIDDEN, 0.0)
        bias = outside if bias is None else _add_outer(bias, outside)
    return None if bias is None else bias.unsqueeze(1)


def pool_windows(tokens: torch.Tensor, sizes: Sizes, window: Sizes) -> torch.Tensor:
    """Average the tokens of each window; those that padding added do not count.

    Args:
        tokens: (B, *S, C), padded with zeros to whole windows.
        sizes: Size of the map before it was padded.
        window: Side of a window along each axis.

    Returns:
        (B, windows, C).

    Example:
        >>> pool_windows(torch.tensor([[[3.0], [5.0], [7.0], [0.0]]]), (3,), (2,)).tolist()
        [[[4.0], [7.0]]]
    """
    pooled = tokens
    for axis, side in enumerate(window, 1):
        shape = pooled.shape
        apart = pooled.reshape(*shape[:axis], shape[axis] // side, side, *shape[axis + 1 :])
        pooled = apart.mean(dim=axis + 1)
    pooled = pooled.reshape(tokens.shape[0], -1, tokens.shape[-1])
    scale = mean_scale(sizes, window)
    return pooled if scale is None else pooled * scale.to(pooled)


def mean_scale(sizes: Sizes, window: Sizes) -> torch.Tensor | None:
    """Correction of means over padded windows, (windows, 1); None if nothing is padded."""
    if not _is_padded(sizes, window):
        return None
    scale: torch.Tensor | None = None
    for size, side in zip(sizes, window, strict=True):
        inside = (size - torch.arange(-(-size // side)) * side).clamp(max=side)
        factor = side / inside
        scale = factor if scale is None else (scale[:, None] * factor).reshape(-1)
    return None if scale is None else scale.unsqueeze(1)


def repeat_batch(constant: torch.Tensor, batch: int, like: torch.Tensor) -> torch.Tensor:
    """Repeat a constant over windows for each image of a batch, where there are several."""
    constant = constant.to(like.device)
    return constant if batch == 1 else constant.repeat(batch, *[1] * (constant.ndim - 1))


def _add_outer(bias: torch.Tensor, outside: torch.Tensor) -> torch.Tensor:
    """Add an axis: (n, k) and (m, j) to (n * m, k * j)."""
    both = bias[:, None, :, None] + outside[None, :, None, :]
    return both.reshape(-1, bias.shape[1] * outside.shape[1])


def _is_padded(sizes: Sizes, window: Sizes) -> bool:
    return any(size % side for size, side in zip(sizes, window, strict=True))


def _add_halo(cut: torch.Tensor, halo: int) -> torch.Tensor:
    """Add a halo of the neighbours to windows: (G, A, n, w, R) to (G, A, n, w + 2h, R)."""
    side = cut.shape[3]
    left, right = cut[:, :, :, side - halo :], cut[:, :, :, :halo]
    before = torch.cat([left[:, :, -1:], left[:, :, :-1]], dim=2)
    after = torch.cat([right[:, :, 1:], right[:, :, :1]], dim=2)
    return torch.cat([before, cut, after], dim=3)
