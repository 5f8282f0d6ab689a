"""Channels to space: logits of a finer stride than their features."""

import torch
from torch.nn import functional


def shuffle(x: torch.Tensor, factor: int) -> torch.Tensor:
    """Rearrange groups of channels into space.

    Args:
        x: (B, C * factor**axes, *S).
        factor: How many times as large each size becomes.

    Returns:
        (B, C, *(S * factor)); a group's channels are in reading order.

    Source:
        Shi et al., CVPR 2016, in 2D and 3D. In three, planes are shuffled by what
        runtimes have for images: permuting one axis after the other takes them longer.

    Example:
        >>> shuffle(torch.arange(8.0).reshape(1, 8, 1, 1, 1), 2).flatten().tolist()
        [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    """
    if factor == 1:
        return x
    if x.ndim == 4:
        return functional.pixel_shuffle(x, factor)
    batch, channels, depth, *plane = x.shape
    channels //= factor**3
    groups, cells = batch * channels, factor**2
    # To (depth in a group's cell, depth, cell of a plane, plane), so that planes are shuffled.
    planes = x.reshape(groups * factor, cells, depth, -1).transpose(1, 2)
    fine = functional.pixel_shuffle(planes.reshape(-1, cells, *plane), factor)
    slabs = fine.reshape(groups, factor, depth, -1).transpose(1, 2)
    return slabs.reshape(batch, channels, *(size * factor for size in (depth, *plane)))
