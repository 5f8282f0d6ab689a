"""From a level's spec to its mechanism of attention, by the table in `spec.mechanisms`."""

from collections.abc import Callable
from importlib import import_module
from typing import Protocol

import torch

from bedside.layers.attention.exchange import Exchanging
from bedside.layers.attention.heads import Heads
from bedside.spec import LevelSpec
from bedside.spec.mechanisms import MECHANISMS


class Mechanism(Protocol):
    """What queries read from keys and values; without weights of its own."""

    def __call__(self, tokens: torch.Tensor) -> torch.Tensor:
        """Turn queries, keys and values, (B, *S, C), into what was read, (B, *S, heads * d)."""
        ...


def create_mechanism(level: LevelSpec) -> Mechanism:
    """Return the attention mechanism that a level's block names.

    Args:
        level: Settings of the level.

    Example:
        >>> create_mechanism(LevelSpec("linear", channels=8, depth=1, num_heads=2, head_dim=4))
        LinearAttention(heads=Heads(num_heads=2, head_dim=4, kv_heads=1))
    """
    module, name = MECHANISMS[level.block].create.split(":")
    package = import_module(f"bedside.layers.attention.{module}")
    create: Callable[[LevelSpec], Mechanism] = getattr(package, name)
    mechanism = create(level)
    if not level.exchange_window:
        return mechanism
    heads = Heads(level.num_heads, level.head_dim, level.kv_heads)
    return Exchanging(mechanism, heads, window=level.exchange_window, grid=level.grid)
