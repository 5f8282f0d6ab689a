"""The network of ours that is shaped for matrix units of 128 x 128; it is no named one."""

from dataclasses import replace

from bedside.export.tiles import TILE
from bedside.spec import LevelSpec, ModelSpec, named_spec

SHAPED = "tiny-mxu"


def shape_for_tiles() -> ModelSpec:
    """A network of 1.2 times the multiply-adds of `tiny` whose channels come near to full tiles.

    Levels have 32, 64 and 128 channels, and one head as wide as a tile, so that products of
    tokens have 128 terms.
    """
    levels = (
        LevelSpec("conv", 32, 1),
        LevelSpec("conv", 64, 1),
        LevelSpec("window", 128, 1, num_heads=1, head_dim=TILE),
        LevelSpec("window", 128, 2, num_heads=1, head_dim=TILE),
    )
    return replace(named_spec("tiny"), levels=levels, stem_channels=16, decoder_channels=32)
