"""Mechanisms of attention, one a file, and the block that they work in."""

from bedside.layers.attention.block import Attention, Level, TransformerBlock, WindowExchange
from bedside.layers.attention.heads import Heads, attend
from bedside.layers.attention.table import Mechanism, create_mechanism
from bedside.spec.mechanisms import MECHANISMS

__all__ = [
    "MECHANISMS",
    "Attention",
    "Heads",
    "Level",
    "Mechanism",
    "TransformerBlock",
    "WindowExchange",
    "attend",
    "create_mechanism",
]
