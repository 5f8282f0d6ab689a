"""What a kernel must know of a map, its windows and its heads: numbers only."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from bedside.layers.kernels.tiles import Tiles, fit_tiles


@dataclass(frozen=True)
class Geometry:
    """A map of tokens that is read window by window; two axes become three, the first of side 1.

    Attributes:
        batch: Images.
        sizes: Tokens along each axis.
        counts: Windows along each axis.
        strides: Of the tokens' memory: image, axes, channel.
        window: Side of a window along each axis.
        halo: Tokens seen beyond it along each axis.
        num_heads: Query heads.
        head_dim: Channels of a head.
        kv_heads: Heads of keys and values.
        top_k: Regions that each region sees; 0 for windows.
    """

    batch: int
    sizes: tuple[int, ...]
    counts: tuple[int, ...]
    strides: tuple[int, ...]
    window: tuple[int, ...]
    halo: tuple[int, ...]
    num_heads: int
    head_dim: int
    kv_heads: int
    top_k: int

    @classmethod
    def of(
        cls,
        tokens: torch.Tensor,
        chosen: torch.Tensor | None,
        heads: Sequence[int],
        window: Sequence[int],
        halo: int,
    ) -> "Geometry":
        """Geometry of a call.

        Args:
            tokens: (B, *S, C).
            chosen: (B, regions, k), or None.
            heads: Query heads, channels of a head, heads of keys and values.
            window: Side of a window along each axis.
            halo: Tokens seen beyond it, on each side.
        """
        batch, *sizes, _ = tokens.shape
        first, *inner, last = tokens.stride()
        flat = [1] * (3 - len(sizes))
        counts = [-(-size // side) for size, side in zip(sizes, window, strict=True)]
        return cls(
            batch=batch,
            sizes=(*flat, *sizes),
            counts=(*flat, *counts),
            strides=(first, *[0] * len(flat), *inner, last),
            window=(*flat, *window),
            halo=(*[0] * len(flat), *[halo] * len(sizes)),
            num_heads=heads[0],
            head_dim=heads[1],
            kv_heads=heads[2],
            top_k=0 if chosen is None else chosen.shape[2],
        )

    @property
    def regions(self) -> int:
        """Windows of an image."""
        return math.prod(self.counts)

    @property
    def area(self) -> int:
        """Tokens of a window."""
        return math.prod(self.window)

    @property
    def seen(self) -> int:
        """Keys that a window sees."""
        if self.top_k:
            return self.top_k * self.area
        return math.prod(w + 2 * h for w, h in zip(self.window, self.halo, strict=True))

    @property
    def rows(self) -> int:
        """Query rows of a window that read one head of keys."""
        return self.area * self.num_heads // self.kv_heads

    def constants(self) -> dict[str, Any]:
        """What all device code of a call is compiled for."""
        return {
            "window": self.window,
            "halo": self.halo,
            "group": self.num_heads // self.kv_heads,
            "kv_heads": self.kv_heads,
            "head_dim": self.head_dim,
            "top_k": self.top_k,
        }

    def fit(self, tiles: Tiles, *, seen: int | None = None) -> Tiles:
        """Tiles that are no larger than a window's rows and the keys that it sees.

        Args:
            tiles: The largest ones.
            seen: Number of keys; by default those that a window sees.
        """
        return fit_tiles(tiles, rows=self.rows, keys=self.seen if seen is None else seen)
