"""A network as data, level by level, in two or three dimensions."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from bedside.errors import SpecError
from bedside.spec.mechanisms import MECHANISMS
from bedside.spec.reading import UNLESS_EMPTY

CONV_BLOCKS = ("conv", "reparam")
FUSION_RATIO = 2
"""Inner width of the decoder's blocks over its own."""
BITS = (8, 4, 2, 1)


@dataclass(frozen=True)
class LevelSpec:
    """One level of the network; settings that its block does not use are ignored.

    Attributes:
        block: "conv" for inverted residuals, "reparam" for those with parallel branches
            that fold into one convolution; else a Transformer block over one of the
            mechanisms in `spec.mechanisms`: "window", "overlap" (windows that see a halo
            of keys), "routed" (regions that choose the regions they attend to), "pooled"
            (a grid of pooled keys), "linear" (linear attention), "dense" (all to all).
        channels: Width of the level.
        depth: Number of blocks; 0 leaves the convolution that leads to the level.
        num_heads: Query heads.
        head_dim: Channels of a head.
        window: Side of a window in tokens; several share the query heads evenly among
            them, so that one block sees several scales.
        exchange: Whether pooled tokens of windows or regions attend to each other, in
            mechanisms that have some.
        exchange_window: The same for all other blocks, which have no windows of their own:
            side of the windows that exchange pooled tokens, 0 for none.
        mlp_ratio: Hidden width of a block's MLP (or inverted residual) over its width.
        halo: Tokens that a window of "overlap" sees beyond itself, on each side.
        region: Side of a region of "routed" in tokens.
        top_k: Number of regions that a region of "routed" attends to.
        grid: Pooled keys along each axis, at most, of "pooled" and of every exchange.
        kv_heads: Heads of keys and values; 1 serves all query heads.
        shared: What the level's blocks have in common: the convolutions of their
            attention, of their MLP, of both, or "none". Norms are each block's own.
    """

    block: str
    channels: int
    depth: int
    num_heads: int = 4
    head_dim: int = 16
    window: int | tuple[int, ...] = 8
    exchange: bool = True
    mlp_ratio: int = 2
    halo: int = 4
    region: int = 8
    top_k: int = 4
    grid: int = 8
    kv_heads: int = 1
    shared: Literal["none", "attention", "mlp", "both"] = "none"
    exchange_window: int = 0

    def __post_init__(self) -> None:
        """Refuse numbers that no block can be built from."""
        sizes = ("channels", "num_heads", "head_dim", "mlp_ratio")
        for name in (*sizes, "region", "top_k", "grid", "kv_heads"):
            if getattr(self, name) < 1:
                raise SpecError(f"{name} is {getattr(self, name)}; expected at least 1.")
        if not self.windows or min(self.windows) < 1:
            raise SpecError(f"window is {self.window}; expected sizes of at least 1.")
        for name in ("depth", "halo", "exchange_window"):
            if getattr(self, name) < 0:
                raise SpecError(f"{name} is {getattr(self, name)}; expected at least 0.")
        if self.num_heads % self.kv_heads:
            raise SpecError(
                f"num_heads is {self.num_heads}; expected a multiple of kv_heads, {self.kv_heads}."
            )
        self._check_block()
        count = len(self.windows)
        if self.num_heads % count or (self.kv_heads > 1 and self.kv_heads % count):
            raise SpecError(
                f"{count} windows cannot share {self.num_heads} heads and {self.kv_heads} "
                "kv_heads evenly; choose multiples, or one of kv_heads."
            )

    def _check_block(self) -> None:
        """Refuse an unknown block, and settings that it cannot have."""
        if self.block not in (*CONV_BLOCKS, *MECHANISMS):
            known = ", ".join((*CONV_BLOCKS, *MECHANISMS))
            raise SpecError(f'block is "{self.block}"; expected one of {known}.')
        mechanism = MECHANISMS.get(self.block)
        if self.exchange_window and mechanism is not None and mechanism.windowed:
            raise SpecError(
                f'exchange_window is {self.exchange_window}, but "{self.block}" exchanges between '
                "windows or regions of its own: leave it out, and set exchange."
            )
        if self.block == "overlap" and self.halo > min(self.windows):
            raise SpecError(
                f"halo is {self.halo}; it may be at most the smallest window, {min(self.windows)}."
            )

    @property
    def windows(self) -> tuple[int, ...]:
        """The sizes of window, one or several."""
        return (self.window,) if isinstance(self.window, int) else self.window

    def owners(self, part: Literal["attention", "mlp"]) -> range:
        """Return the indices of the blocks that own their weights; others share the first one's.

        Args:
            part: The part of a block in question.
        """
        return range(min(self.depth, 1) if self.shared in (part, "both") else self.depth)


@dataclass(frozen=True)
class ModelSpec:
    """A network; `bedside.models.create` builds it.

    Attributes:
        architecture: Name in the table of models.
        in_channels: Channels of the input tensor.
        num_classes: Channels of the logits, background included.
        levels: From fine to coarse; the first works at the stem's stride, and each
            further one at twice the stride.
        stem_channels: Width of the stem's first convolution.
        decoder_channels: Width of the fusion decoder, whatever the levels' widths.
        logit_stride: Stride of the logits; at most the stem's.
        spatial_dims: Spatial axes: 2 for (H, W), 3 for (D, H, W).
        stem_stride: Stride of the first level; below 4 for small inputs.
        deep_supervision: Whether coarser levels of the decoder have logits of their own
            in training.
        boundary: Whether a branch draws the outlines of structures in training.
        hidden: Inner widths that are not `mlp_ratio` times the level's, by block:
            "levels.1.0" is the first block of the second level, "fusions.0" the finest of
            the decoder. Where a level shares its MLP, the first block stands for all.
        heads: Query heads that are not the level's `num_heads`, by block; a level's
            exchange comes behind its blocks. Where a level shares its attention, the first
            block stands for all.
        ranks: Convolutions that are a product of smaller ones, by the path of the
            convolution with its norm, such as "levels.2.0.expand". One rank makes two 1x1
            of a 1x1; two ranks (of channels in and out) put two 1x1 around a convolution
            of more than one tap.
        bits: Bits of the weights of some convolutions, by the path of the `ConvNorm` or the
            head, such as {"levels.2.0.expand": 4}: one of 8, 4, 2 and 1. All others are
            stored in 16 bits.
    """

    architecture: str
    in_channels: int
    num_classes: int
    levels: tuple[LevelSpec, ...]
    stem_channels: int = 16
    decoder_channels: int = 32
    logit_stride: Literal[1, 2, 4] = 2
    spatial_dims: Literal[2, 3] = 2
    stem_stride: Literal[1, 2, 4] = 4
    deep_supervision: bool = False
    boundary: bool = False
    hidden: Mapping[str, int] = field(default_factory=dict, metadata=UNLESS_EMPTY)
    heads: Mapping[str, int] = field(default_factory=dict, metadata=UNLESS_EMPTY)
    ranks: Mapping[str, tuple[int, ...]] = field(default_factory=dict, metadata=UNLESS_EMPTY)
    bits: Mapping[str, int] = field(default_factory=dict, metadata=UNLESS_EMPTY)

    def __post_init__(self) -> None:
        """Refuse numbers that no network can be built from."""
        for name in ("in_channels", "num_classes", "stem_channels", "decoder_channels"):
            if getattr(self, name) < 1:
                raise SpecError(f"{name} is {getattr(self, name)}; expected at least 1.")
        if self.logit_stride > self.stem_stride:
            raise SpecError(
                f"logit_stride is {self.logit_stride}; expected at most stem_stride, "
                f"{self.stem_stride}."
            )
        self._check_blocks()

    @property
    def plain_hidden(self) -> dict[str, int]:
        """Inner width of each block where `hidden` does not say another, by path.

        Example:
            >>> ModelSpec("hybrid", 1, 2, (LevelSpec("conv", channels=8, depth=2),)).plain_hidden
            {'levels.0.0': 16, 'levels.0.1': 16}
        """
        found = {
            f"levels.{number}.{block}": level.channels * level.mlp_ratio
            for number, level in enumerate(self.levels)
            for block in level.owners("mlp")
        }
        for number in range(len(self.levels) - 1):
            found[f"fusions.{number}"] = self.decoder_channels * FUSION_RATIO
        return found

    @property
    def plain_heads(self) -> dict[str, int]:
        """Query heads of each attention where `heads` does not say another, by path."""
        found = {}
        for number, level in enumerate(self.levels):
            blocks = list(level.owners("attention")) if level.block not in CONV_BLOCKS else []
            if level.block in CONV_BLOCKS and level.exchange_window:
                blocks.append(level.depth)
            found.update({f"levels.{number}.{block}": level.num_heads for block in blocks})
        return found

    def _check_blocks(self) -> None:
        """Refuse widths, heads and ranks of what is not there, or that are none."""
        for name in ("hidden", "heads", "ranks"):
            for path, value in getattr(self, name).items():
                least = min(value, default=0) if isinstance(value, tuple) else value
                if least < 1:
                    raise SpecError(f"{name} has {path} = {value}; expected at least 1.")
        check_paths("hidden", self.hidden, self.plain_hidden)
        check_paths("heads", self.heads, self.plain_heads)
        for path, heads in self.heads.items():
            try:
                replace(self.levels[int(path.split(".")[1])], num_heads=heads)
            except SpecError as error:
                raise SpecError(f"heads of {path}: {error}") from error
        for path, ranks in self.ranks.items():
            if len(ranks) not in (1, 2):
                raise SpecError(
                    f"ranks has {path} = {ranks}; expected one rank for a 1x1 convolution, two "
                    "for one of more taps."
                )
        for path, bits in self.bits.items():
            if bits not in BITS:
                raise SpecError(
                    f'bits of "{path}" is {bits}; expected one of {", ".join(map(str, BITS))}.'
                )


def check_paths(name: str, paths: Mapping[str, object], known: Mapping[str, object]) -> None:
    """Refuse a table that names a part the network does not have.

    Args:
        name: Name of the table, for the error.
        paths: What it names.
        known: What it may name.

    Raises:
        SpecError: If it names something else; the nearest is named.
    """
    for path in paths:
        if path not in known:
            near = difflib.get_close_matches(path, known, n=1, cutoff=0.0)
            hint = f'Did you mean "{near[0]}"?' if near else "This network has none."
            raise SpecError(f'{name} names "{path}", which this network does not have. {hint}')
