"""Tiles of the kernels: data, by precision and head dimension."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Tiles:
    """How a kernel divides its work.

    Attributes:
        rows: Query rows of a program, at most; a power of 2.
        keys: Keys that it reads at a time, at most; a power of 2.
        warps: Warps of a program.
        stages: Depth of the software pipeline.
    """

    rows: int
    keys: int
    warps: int = 4
    stages: int = 2


_HALF = {16: Tiles(128, 64), 32: Tiles(128, 64), 64: Tiles(64, 64)}
_SINGLE = {16: Tiles(64, 32), 32: Tiles(64, 32), 64: Tiles(32, 32)}
TILES = {torch.float16: _HALF, torch.bfloat16: _HALF, torch.float32: _SINGLE}
"""Precision -> head dimension -> tiles. What is not in it has no kernel."""

_HALF_BACK = {16: Tiles(64, 64), 32: Tiles(64, 64), 64: Tiles(64, 32)}
_SINGLE_BACK = {16: Tiles(32, 32), 32: Tiles(32, 32), 64: Tiles(32, 16)}
BACKWARD = {
    torch.float16: _HALF_BACK,
    torch.bfloat16: _HALF_BACK,
    torch.float32: _SINGLE_BACK,
}
"""The same of the backward pass, which keeps more in registers."""

# Sides of a product in a tensor core.
_LEAST = 16


def fit_tiles(tiles: Tiles, *, rows: int, keys: int) -> Tiles:
    """Tiles that are no larger than the work.

    Args:
        tiles: The largest ones.
        rows: Query rows of a window.
        keys: Keys that it sees.

    Example:
        >>> fit_tiles(Tiles(rows=128, keys=64), rows=20, keys=100)
        Tiles(rows=32, keys=64, warps=4, stages=2)
    """
    return Tiles(_fit(tiles.rows, rows), _fit(tiles.keys, keys), tiles.warps, tiles.stages)


def _fit(largest: int, count: int) -> int:
    power: int = max(_LEAST, 1 << (count - 1).bit_length())
    return min(largest, power)
