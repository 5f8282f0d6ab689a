"""The networks that a search chooses from: a small table of what each level may be.

What depends on the images is not in it: channels of the input, classes, strides, and what
supervises training are those of the recipe.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bedside.spec import LevelSpec, ModelSpec, named_spec, to_mapping
from bedside.spec.mechanisms import MECHANISMS, Settings
from bedside.spec.model import CONV_BLOCKS, FUSION_RATIO


@dataclass(frozen=True)
class Stage:
    """What a level may be; each row from small to large.

    Attributes:
        channels: Widths; a level is never narrower than the one before it.
        depths: Numbers of blocks.
        blocks: Kinds of block.
    """

    channels: tuple[int, ...]
    depths: tuple[int, ...]
    blocks: tuple[str, ...]


@dataclass(frozen=True)
class Space:
    """What a network may be.

    Attributes:
        stems: Widths of the stem.
        decoders: Widths of the decoder.
        stages: From fine to coarse; a network has the first few of them.
        settings: Of each kind of block, those that are drawn; all others stay as they are by
            default, so that no two specs stand for one network.
    """

    stems: tuple[int, ...]
    decoders: tuple[int, ...]
    stages: tuple[Stage, ...]
    settings: Mapping[str, Settings]


def _blocks(level: int, *, conv: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Kinds of block that a level may have: convolutions, and mechanisms by their table."""
    return (*conv, *(name for name, row in MECHANISMS.items() if level in row.levels))


def _settings(spatial_dims: int) -> Mapping[str, Settings]:
    """Settings of each kind of block that are drawn."""
    return {
        **{name: {} for name in CONV_BLOCKS},
        **{name: row.settings[spatial_dims] for name, row in MECHANISMS.items()},
    }


SPACES: Mapping[int, Space] = {
    2: Space(
        stems=(8, 16, 24, 32),
        decoders=(16, 24, 32, 48, 64, 96),
        stages=(
            Stage((16, 24, 32, 48, 64), (1, 2), CONV_BLOCKS),
            Stage((32, 48, 64, 96, 128), (1, 2), _blocks(1, conv=CONV_BLOCKS)),
            Stage((48, 64, 96, 144, 192, 256), (1, 2, 3, 4), _blocks(2, conv=("conv",))),
            Stage((64, 96, 128, 192, 256, 384), (1, 2, 3, 4), _blocks(3)),
            Stage((96, 128, 192, 256, 384), (1, 2, 3), _blocks(4)),
        ),
        settings=_settings(2),
    ),
    3: Space(
        stems=(8, 16, 24),
        decoders=(16, 24, 32, 48),
        stages=(
            Stage((16, 24, 32, 48), (1, 2), CONV_BLOCKS),
            Stage((24, 32, 48, 64, 96), (1, 2), _blocks(1, conv=CONV_BLOCKS)),
            Stage((48, 64, 96, 128, 208), (1, 2, 3, 4), _blocks(2, conv=("conv",))),
            Stage((64, 96, 128, 176, 320), (1, 2, 3, 4), _blocks(3)),
            Stage((96, 128, 176, 256), (1, 2, 3), _blocks(4)),
        ),
        settings=_settings(3),
    ),
}
"""Axes -> what a network of so many may be."""

_FEWEST = 3
"""Levels that a drawn network has at least."""

# How far widths and depths scatter around the size of their network, which is from 0 to 1.
_SCATTER = 0.2

NAMED = ("nano", "tiny", "small")


def list_anchors(like: ModelSpec, size_px: tuple[int, ...]) -> dict[str, ModelSpec]:
    """Networks that a search always considers, by name.

    Args:
        like: The recipe's network, whose input, classes and strides all have.
        size_px: Size of the input.

    Returns:
        The recipe's own, those of `NAMED`, and the two corners of the space, by name, without
        repeats.
    """
    space, counts = SPACES[like.spatial_dims], count_levels(like, size_px)
    named = {name: named_spec(name, spatial_dims=like.spatial_dims) for name in NAMED}
    anchors = {
        "recipe": like,
        **{
            name: _build(spec.levels, like, stem=spec.stem_channels, decoder=spec.decoder_channels)
            for name, spec in named.items()
        },
        "smallest": _corner(space, like, levels=counts[0], end=0),
        "largest": _corner(space, like, levels=counts[-1], end=-1),
    }
    found: dict[str, ModelSpec] = {}
    seen: set[str] = set()
    for name, spec in anchors.items():
        if (key := spec_key(spec)) not in seen:
            seen.add(key)
            found[name] = spec
    return found


def draw_specs(
    like: ModelSpec, size_px: tuple[int, ...], *, seed: int, count: int
) -> Iterator[ModelSpec]:
    """Draw networks from the space, always the same ones for the same seed.

    First a size is drawn evenly between the corners of the space, and then all widths and
    depths around it: so small and large networks are drawn as often as those between.

    Args:
        like: The recipe's network, whose input, classes and strides all have.
        size_px: Size of the input.
        seed: Of the draws.
        count: How many are drawn; repeats among them are left out.

    Example:
        >>> first, again = (
        ...     list(draw_specs(named_spec("tiny"), (256, 256), seed=7, count=3)) for _ in range(2)
        ... )
        >>> first == again
        True
    """
    space, counts = SPACES[like.spatial_dims], count_levels(like, size_px)
    chance = np.random.default_rng(seed)
    seen = set()
    for _ in range(count):
        pick, levels = _Sized(chance), list[LevelSpec]()
        for stage in space.stages[: pick.any(counts)]:
            least = levels[-1].channels if levels else 0
            levels.append(_draw_level(pick, stage, space.settings, least=least))
        stem, decoder = pick.near(space.stems), pick.near(space.decoders)
        spec = _build(levels, like, stem=stem, decoder=decoder)
        if (key := spec_key(spec)) not in seen:
            seen.add(key)
            yield spec


def count_levels(like: ModelSpec, size_px: tuple[int, ...]) -> tuple[int, ...]:
    """Numbers of levels of drawn networks: the recipe's, one fewer, one more.

    Those are left out whose coarsest level would see the whole input as a single token.

    Example:
        >>> count_levels(named_spec("tiny"), (256, 256)), count_levels(named_spec("tiny"), (64, 64))
        ((3, 4, 5), (3, 4))
    """
    most = len(SPACES[like.spatial_dims].stages)
    wanted = {min(most, max(_FEWEST, len(like.levels) + more)) for more in (-1, 0, 1)}
    fits = [n for n in wanted if max(size_px) > like.stem_stride * 2 ** (n - 1)]
    return tuple(sorted(fits)) or (_FEWEST,)


def align_channels(spec: ModelSpec, multiple: int) -> ModelSpec:
    """The same network with its widths rounded up to multiples.

    Heads keep their width, which is of another kind: channels of attention are a number of them.

    Args:
        spec: The network.
        multiple: Channels, at least 1.

    Example:
        >>> aligned = align_channels(named_spec("tiny"), 16)
        >>> [level.channels for level in aligned.levels], aligned.decoder_channels
        ([32, 64, 96, 128], 32)
    """

    def up(channels: int) -> int:
        return -(-channels // multiple) * multiple

    return replace(
        spec,
        levels=tuple(replace(level, channels=up(level.channels)) for level in spec.levels),
        stem_channels=up(spec.stem_channels),
        decoder_channels=up(spec.decoder_channels),
    )


def spec_key(spec: ModelSpec) -> str:
    """Text of a spec that is the same for equal networks."""
    return json.dumps(to_mapping(spec), sort_keys=True)


def guess_work(spec: ModelSpec, size_px: tuple[int, ...]) -> float:
    """Estimate the multiplications of a network for one input, without building it.

    Products of tokens with tokens are not counted, nor are depthwise convolutions. It excludes
    networks that cannot fit a budget, whose blocks need not be timed.

    Args:
        spec: The network.
        size_px: Size of its input.
    """

    def cells(stride: int) -> int:
        return math.prod(-(-size // stride) for size in size_px)

    taps, width = 3**spec.spatial_dims, spec.decoder_channels
    strides = [spec.stem_stride * 2**number for number in range(len(spec.levels))]
    channels = [level.channels for level in spec.levels]
    first = 1 if spec.stem_stride == 1 else 2
    work = taps * spec.in_channels * spec.stem_channels * cells(first)
    work += taps * spec.stem_channels * channels[0] * cells(spec.stem_stride)
    for number, (level, stride) in enumerate(zip(spec.levels, strides, strict=True)):
        block = 2 * level.mlp_ratio * level.channels**2
        if level.block not in CONV_BLOCKS:
            inner = level.head_dim * (level.num_heads + level.kv_heads)
            block += 2 * level.channels * inner
        work += (level.depth * block + level.channels * width) * cells(stride)
        if number:
            work += taps * channels[number - 1] * level.channels * cells(stride)
    fusion = 2 * FUSION_RATIO * width**2
    work += sum(fusion * cells(stride) for stride in strides[:-1])
    work += width * spec.num_classes * cells(spec.logit_stride)
    return float(work)


def _build(levels: Sequence[LevelSpec], like: ModelSpec, *, stem: int, decoder: int) -> ModelSpec:
    """Network with the input, classes, strides and supervision of another."""
    return replace(
        like,
        levels=tuple(levels),
        stem_channels=stem,
        decoder_channels=decoder,
        hidden={},
        heads={},
        ranks={},
        bits={},
    )


def _corner(space: Space, like: ModelSpec, *, levels: int, end: int) -> ModelSpec:
    """Network of the first choice of everything, or the last."""
    chosen = [
        _level(
            stage.blocks[end],
            stage.channels[end],
            stage.depths[end],
            {name: row[end] for name, row in space.settings[stage.blocks[end]].items()},
        )
        for stage in space.stages[:levels]
    ]
    return _build(chosen, like, stem=space.stems[end], decoder=space.decoders[end])


class _Sized:
    """Draws for one network, around one size."""

    def __init__(self, chance: np.random.Generator) -> None:
        self._chance, self._size = chance, chance.random()

    def any(self, choices: Sequence[Any]) -> Any:
        """Draw evenly."""
        return choices[int(self._chance.integers(len(choices)))]

    def near(self, choices: Sequence[Any]) -> Any:
        """Draw from choices in order of size."""
        place = self._size + _SCATTER * self._chance.standard_normal()
        return choices[min(len(choices) - 1, max(0, int(place * len(choices))))]


def _draw_level(
    pick: _Sized, stage: Stage, settings: Mapping[str, Settings], *, least: int
) -> LevelSpec:
    block = pick.any(stage.blocks)
    # No bottleneck: a level that would be narrower is as wide as the one before it.
    wide = [channels for channels in stage.channels if channels >= least]
    return _level(
        block,
        max(wide[0], pick.near(stage.channels)),
        pick.near(stage.depths),
        {name: pick.any(row) for name, row in settings[block].items()},
    )


def _level(block: str, channels: int, depth: int, settings: Mapping[str, Any]) -> LevelSpec:
    return LevelSpec(block, channels, depth, **settings)
