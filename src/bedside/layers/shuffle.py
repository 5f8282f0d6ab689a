"""From channels to space: how logits come out finer than the features they are made from."""

import torch
from torch.nn import functional


def shuffle(x: torch.Tensor, factor: int) -> torch.Tensor:
    """Spread groups of channels over space.

    Args:
        x: (B, C * factor**axes, *S).
        factor: How many times as large each size becomes.

    Returns:
        (B, C, *(S * factor)); a group's channels are in reading order.

    Source:
        Shi et al., CVPR 2016, in any number of axes; one axis after the other, because
        runtimes are slow at permuting more than a few.

    Example:
        >>> shuffle(torch.arange(8.0).reshape(1, 8, 1, 1, 1), 2).flatten().tolist()
        [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    """
    if factor == 1:
        return x
    if x.ndim == 4:
        return functional.pixel_shuffle(x, factor)
    batch, channels, *sizes = x.shape
    inner = 1
    for axis in range(len(sizes) - 1, -1, -1):
        channels //= factor
        outer = 1
        for size in sizes[: axis + 1]:
            outer *= size
        moved = x.reshape(batch * channels, factor, outer, inner).transpose(1, 2)
        sizes[axis] *= factor
        inner *= sizes[axis]
        x = moved
    return x.reshape(batch, channels, *sizes)
