"""The table of attention mechanisms: what a level's `block` may name, and where each is made."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Settings = Mapping[str, tuple[Any, ...]]
"""Name of a setting -> its choices, from small to large."""

_HEADS: Settings = {"num_heads": (2, 4, 8)}


@dataclass(frozen=True)
class MechanismRow:
    """One mechanism of attention.

    Attributes:
        create: "module:function" in `bedside.layers.attention`; the function takes the level's
            spec.
        windowed: Whether it has windows or regions of its own, which may exchange pooled tokens.
        dot_products: Whether queries meet keys in dot products alone, so that both may be
            rotated together.
        levels: Levels, from the finest, 0, at which a searched network may have it.
        settings: Settings that a search draws, by number of spatial dimensions.
    """

    create: str
    windowed: bool = False
    dot_products: bool = True
    levels: range = range(0)
    settings: Mapping[int, Settings] = field(default_factory=lambda: {2: _HEADS, 3: _HEADS})


MECHANISMS = {
    "linear": MechanismRow("linear:create", dot_products=False, levels=range(1, 5)),
    "pooled": MechanismRow("pooled:create", levels=range(1, 5)),
    "window": MechanismRow(
        "window:create",
        windowed=True,
        levels=range(2, 5),
        settings={
            2: {**_HEADS, "window": (4, 8, (4, 8))},
            3: {**_HEADS, "window": (4, 6)},
        },
    ),
    "overlap": MechanismRow(
        "overlap:create",
        windowed=True,
        levels=range(2, 3),
        settings={
            2: {**_HEADS, "window": (4, 8)},
            3: {**_HEADS, "window": (4, 6), "halo": (2,)},
        },
    ),
    "routed": MechanismRow(
        "routed:create",
        windowed=True,
        levels=range(2, 3),
        settings={
            2: {**_HEADS, "top_k": (2, 4)},
            3: {**_HEADS, "region": (4,), "top_k": (2, 4)},
        },
    ),
    "dense": MechanismRow("dense:create", levels=range(3, 5)),
}
"""Name of a level's block -> its row, from the cheapest to the dearest."""
