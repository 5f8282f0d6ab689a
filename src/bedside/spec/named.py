"""Named networks: specs from the smallest to one that serves as a teacher."""

from dataclasses import dataclass, replace
from typing import Literal

from bedside.errors import SpecError
from bedside.spec.model import LevelSpec, ModelSpec

# Tokens along a window's side: 64 a window in 2D, 216 in 3D.
_WINDOW: dict[int, int] = {2: 8, 3: 6}


@dataclass(frozen=True)
class _Family:
    """Widths of one named network; levels without heads are convolutions."""

    stem: int
    decoder: int
    channels: tuple[int, ...]
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    head_dim: int = 16


# Sizes and axes -> widths. In 2D four levels end at stride 32, where one window holds all of
# 256 x 256 pixels: a network that ends at 16 now and then mistakes a whole chamber. In 3D the
# strided 3x3x3 convolutions weigh more, so that the coarse levels are narrower for the same
# number of weights.
_FAMILIES = {
    ("nano", 2): _Family(16, 24, (24, 40, 56, 64), (1, 1, 1, 2), (0, 0, 2, 4)),
    ("tiny", 2): _Family(16, 32, (32, 56, 88, 120), (1, 1, 2, 2), (0, 0, 4, 4)),
    ("small", 2): _Family(24, 48, (48, 80, 144, 208), (1, 1, 2, 3), (0, 0, 4, 8)),
    ("base", 2): _Family(32, 64, (64, 128, 256, 384), (1, 2, 4, 4), (0, 0, 8, 8)),
    ("teacher", 2): _Family(48, 128, (96, 192, 384, 640), (2, 3, 8, 5), (0, 0, 12, 16), 32),
    ("nano", 3): _Family(8, 16, (16, 40, 64), (1, 1, 2), (0, 2, 2)),
    ("tiny", 3): _Family(12, 24, (28, 56, 96), (1, 1, 3), (0, 2, 4)),
    ("small", 3): _Family(16, 32, (32, 64, 128, 176), (1, 1, 2, 2), (0, 0, 4, 8)),
    ("base", 3): _Family(24, 48, (48, 96, 208, 320), (1, 2, 4, 4), (0, 0, 8, 8)),
    ("teacher", 3): _Family(32, 64, (64, 128, 288, 544), (2, 3, 8, 6), (0, 0, 8, 16), 32),
}

CONV = "-conv"
"""Ends the names of networks of convolutions alone."""

# The same widths, and as many blocks as take about the time of windows of attention, or less.
_CONV_DEPTHS = {
    ("nano", 2): (1, 2, 2, 3),
    ("tiny", 2): (1, 2, 3, 4),
    ("small", 2): (1, 2, 3, 5),
    ("base", 2): (1, 3, 5, 6),
    ("nano", 3): (1, 3, 4),
    ("tiny", 3): (2, 4, 5),
    ("small", 3): (1, 2, 3, 4),
    ("base", 3): (1, 3, 5, 6),
}
_FAMILIES |= {
    (name + CONV, axes): replace(
        _FAMILIES[name, axes], depths=depths, heads=tuple(0 for _ in depths)
    )
    for (name, axes), depths in _CONV_DEPTHS.items()
}

NAMES = tuple(dict.fromkeys(name for name, _ in _FAMILIES))
"""From the smallest to the largest: those with attention, then those of convolutions alone."""


def named_spec(
    name: str, *, spatial_dims: Literal[2, 3] = 2, in_channels: int = 1, num_classes: int = 2
) -> ModelSpec:
    """Return the spec of a named network.

    Args:
        name: One of `NAMES`.
        spatial_dims: Spatial axes.
        in_channels: Channels of the input.
        num_classes: Channels of the logits, background included.

    Raises:
        SpecError: If there is no such name, or no such number of axes.

    Example:
        >>> [level.block for level in named_spec("tiny", spatial_dims=3).levels]
        ['conv', 'window', 'window']
    """
    if (name, spatial_dims) not in _FAMILIES:
        raise SpecError(
            f'no model "{name}" with {spatial_dims} axes; choose one of {", ".join(NAMES)}, '
            "with 2 or 3."
        )
    family = _FAMILIES[name, spatial_dims]
    levels = tuple(
        LevelSpec(
            "window",
            channels,
            depth,
            num_heads=heads,
            head_dim=family.head_dim,
            window=_WINDOW[spatial_dims],
        )
        if heads
        else LevelSpec("conv", channels, depth)
        for channels, depth, heads in zip(family.channels, family.depths, family.heads, strict=True)
    )
    return ModelSpec(
        architecture="hybrid",
        in_channels=in_channels,
        num_classes=num_classes,
        levels=levels,
        stem_channels=family.stem,
        decoder_channels=family.decoder,
        spatial_dims=spatial_dims,
    )
