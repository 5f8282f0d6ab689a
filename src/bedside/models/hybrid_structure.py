"""What the hybrid network offers to compression and latency tables: its paths, written down.

What stands on the way of a channel is known from the spec, so that nothing is traced.
"""

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, cast

import torch
from torch import nn
from torch.nn import functional

from bedside.errors import UsageError
from bedside.models.hybrid import Hybrid, crop
from bedside.models.structure import (
    AttentionSite,
    Group,
    Structure,
    TimedModule,
    Weights,
)
from bedside.spec import LevelSpec, ModelSpec
from bedside.spec.model import CONV_BLOCKS

_CONVOLUTIONS = {
    "attention": ("attention.project_in", "attention.project_out"),
    "mlp": ("expand", "project"),
}
"""Convolutions of a Transformer block by the part that a level may share."""

_ROLES = {
    "laterals": "decoder",
    "fusions": "decoder",
    "auxiliary": "training",
    "boundary": "training",
}


class HybridStructure(Structure):
    """Groups, attentions and timed modules of the hybrid network."""

    searchable = True

    def groups(self, weights: Weights) -> dict[str, Group]:
        """Groups of kinds "hidden", "heads", "channels", "stem", "decoder" and "blocks".

        Example:
            >>> from bedside.models import create, named_spec
            >>> spec = named_spec("nano")
            >>> groups = HybridStructure(spec).groups(create(spec).state_dict())
            >>> groups["hidden.levels.0.0"].ins
            ('levels.0.0.project',)
        """
        spec, found = self.spec, list[Group]()
        for path, units in hidden_widths(spec).items():
            found.append(self._hidden_group(weights, path, units))
        for path, units in query_heads(spec).items():
            found.append(self._heads_group(path, units))
        for number in range(len(spec.levels)):
            found.append(self._level_group(number))
            blocks = tuple(self._block_paths(number))
            updates = tuple(tuple(self._update_paths(block)) for block in blocks)
            name = f"blocks.levels.{number}"
            found.append(Group(name, len(blocks), blocks=blocks, updates=updates))
        found.append(Group("stem", spec.stem_channels, outs=("stem.0",), ins=("stem.1",)))
        found.append(self._decoder_group())
        return {group.name: group for group in found if group.units}

    def narrow(self, group: Group, units: int) -> ModelSpec:
        """Spec of the network with so many units in a group; all other widths stay."""
        spec, (kind, *rest) = self.spec, group.name.split(".")
        hidden, heads = hidden_widths(spec), query_heads(spec)
        changes: dict[str, Any] = {}
        if kind == "hidden":
            hidden[".".join(rest)] = units
        elif kind == "heads":
            heads[".".join(rest)] = units
        elif kind == "channels":
            number = int(rest[1])
            changes["levels"] = _change(spec, number, channels=units)
        else:
            changes[f"{kind}_channels"] = units
        bare = replace(spec, hidden={}, heads={}, **changes)
        return replace(
            bare,
            hidden={path: n for path, n in hidden.items() if n != bare.plain_hidden[path]},
            heads={path: n for path, n in heads.items() if n != bare.plain_heads[path]},
        )

    def drop_block(
        self, weights: Weights, level: int, index: int
    ) -> tuple[ModelSpec, dict[str, torch.Tensor]]:
        """Spec and weights without one block of a level; its exchange comes behind its blocks.

        If other blocks share its convolutions, the first of them becomes their owner.
        """
        spec = self.spec
        paths = self._block_paths(level) if 0 <= level < len(spec.levels) else []
        if not 0 <= index < len(paths):
            raise UsageError(
                f"there is no block {index} in level {level}; it has {len(paths)} blocks."
            )
        own = spec.levels[level]
        change = {"exchange_window": 0} if index == own.depth else {"depth": own.depth - 1}
        shared = _shared_prefixes(own, paths[0]) if index == 0 and own.depth > 1 else {}

        def move(table: Mapping[str, Any], part: str) -> dict[str, Any]:
            return _move(table, level=level, index=index, shared=shared.get(part, ()))

        new_spec = replace(
            spec,
            levels=_change(spec, level, **change),
            hidden=move(spec.hidden, "hidden"),
            heads=move(spec.heads, "heads"),
            ranks=move(spec.ranks, "ranks"),
            bits=move(spec.bits, "bits"),
        )
        return new_spec, move(weights, "weights")

    def attentions(self) -> list[AttentionSite]:
        """Attention of each Transformer block, and each exchange between windows."""
        return [
            AttentionSite(self._attention_path(block), _level_of(block), heads)
            for block, heads in query_heads(self.spec).items()
        ]

    def shared_by(self, path: str) -> tuple[str, ...]:
        """Paths in later blocks of a level that use the convolution of its first block."""
        kind, *rest = path.split(".")
        if kind != "levels" or rest[1] != "0":
            return ()
        level, name = self.spec.levels[int(rest[0])], ".".join(rest[2:])
        blocks = range(1, level.depth) if name in _shared_names(level) else ()
        return tuple(f"levels.{rest[0]}.{block}.{name}" for block in blocks)

    def roles(self, path: str) -> set[str]:
        """Parts of the network that a convolution belongs to."""
        first, *_ = path.split(".")
        if first == "levels":
            return {"attention" if "attention" in path else "mlp"}
        named = _ROLES.get(first, first)
        return {named, "first"} if path == "stem.0" else {named}

    def list_timed(self, model: nn.Module, size_px: tuple[int, ...]) -> Iterator[TimedModule]:
        """Stem, blocks, decoder and head, with the sizes that they work at."""
        spec, model = self.spec, cast(Hybrid, model)
        first, second = {1: (1, 1), 2: (2, 1), 4: (2, 2)}[spec.stem_stride]
        half = _divide(size_px, first)
        yield TimedModule("stem.0", model.stem[0], None, spec.in_channels, size_px)
        yield TimedModule("stem.1", model.stem[1], None, spec.stem_channels, half)
        sizes = [_divide(half, second)]
        for index, level in enumerate(spec.levels):
            if index:
                fine, down = spec.levels[index - 1].channels, model.downs[index - 1]
                yield TimedModule(f"downs.{index - 1}", down, None, fine, sizes[-1])
                sizes.append(_divide(sizes[-1], 2))
            for number, block in enumerate(cast(nn.Sequential, model.levels[index])):
                name = f"levels.{index}.{number}"
                yield TimedModule(name, block, level, level.channels, sizes[-1])
        for index, level in enumerate(spec.levels):
            lateral = model.laterals[index]
            yield TimedModule(f"laterals.{index}", lateral, None, level.channels, sizes[index])
        width = spec.decoder_channels
        for index, (fine_size, coarse_size) in enumerate(itertools.pairwise(sizes)):
            fusion = Fusion(model.fusions[index], fine_size)
            yield TimedModule(f"fusions.{index}", fusion, None, width, coarse_size)
        yield TimedModule("head", model.head, None, width, sizes[0])

    def _hidden_group(self, weights: Weights, path: str, units: int) -> Group:
        """Inner channels of a block's MLP, or of all blocks that share it."""
        name = f"hidden.{path}"
        level = None if path.startswith("fusions") else self.spec.levels[_level_of(path)]
        if level is None or level.block in CONV_BLOCKS:
            spatial, norms = _spatial_of(weights, f"{path}.spatial")
            made = (f"{path}.expand", *spatial)
            return Group(name, units, outs=made, norms=norms, ins=(f"{path}.project",))
        outs, ins = (self._users(f"{path}.{part}") for part in ("expand", "project"))
        return Group(name, units, outs=outs, ins=ins)

    def _heads_group(self, path: str, units: int) -> Group:
        """Query heads of a block, or of all blocks that share its attention."""
        level = self.spec.levels[_level_of(path)]
        of_windows = 1 if level.block in CONV_BLOCKS else len(level.windows)
        inner = self._attention_path(path)
        return Group(
            f"heads.{path}",
            units,
            width=level.head_dim,
            # Heads of keys are shared out over windows evenly, so one number divides the other.
            divisor=max(level.kv_heads, of_windows),
            outs=self._users(f"{inner}.project_in"),
            ins=self._users(f"{inner}.project_out"),
        )

    def _level_group(self, number: int) -> Group:
        """Channels of a level: those of all that is added up in it."""
        spec, level = self.spec, self.spec.levels[number]
        outs = ["stem.1" if number == 0 else f"downs.{number - 1}"]
        ins = [f"laterals.{number}"]
        if number < len(spec.levels) - 1:
            ins.append(f"downs.{number}")
        for block in self._block_paths(number):
            outs += self._update_paths(block)
            if level.block not in CONV_BLOCKS:
                outs.append(f"{block}.spatial")
                ins += [f"{block}.attention.project_in", f"{block}.expand"]
            else:
                is_exchange = self._update_paths(block)[0].endswith("project_out")
                ins.append(f"{block}.project_in" if is_exchange else f"{block}.expand")
        name = f"channels.levels.{number}"
        return Group(name, level.channels, outs=tuple(outs), ins=tuple(ins))

    def _decoder_group(self) -> Group:
        """Channels of the decoder, and of all heads that read it."""
        spec, fusions = self.spec, range(len(self.spec.levels) - 1)
        outs = [f"laterals.{n}" for n in range(len(spec.levels))]
        outs += [f"fusions.{n}.project" for n in fusions]
        ins = ["head", *(f"fusions.{n}.expand" for n in fusions)]
        ins += [f"auxiliary.{n}" for n in fusions if spec.deep_supervision]
        ins += ["boundary"] if spec.boundary else []
        return Group("decoder", spec.decoder_channels, outs=tuple(outs), ins=tuple(ins))

    def _users(self, path: str) -> tuple[str, ...]:
        """Path of a convolution, and those of all that share it."""
        return (path, *self.shared_by(path))

    def _block_paths(self, number: int) -> list[str]:
        """List the blocks of a level, its exchange last."""
        level = self.spec.levels[number]
        extra = level.block in CONV_BLOCKS and level.exchange_window > 0
        return [f"levels.{number}.{block}" for block in range(level.depth + extra)]

    def _update_paths(self, block: str) -> list[str]:
        """List the convolutions whose results a block adds to its input."""
        level = self.spec.levels[_level_of(block)]
        if level.block not in CONV_BLOCKS:
            return [f"{block}.attention.project_out", f"{block}.project"]
        is_exchange = int(block.rsplit(".", 1)[1]) == level.depth
        return [f"{block}.project_out" if is_exchange else f"{block}.project"]

    def _attention_path(self, block: str) -> str:
        """Path of what holds a block's projections; an exchange holds them itself."""
        is_exchange = self.spec.levels[_level_of(block)].block in CONV_BLOCKS
        return block if is_exchange else f"{block}.attention"


class Fusion(nn.Module):
    """A step of the decoder: double the coarser level, and fuse.

    Args:
        fusion: What follows the sum of both levels.
        sizes: Size of the finer level.
    """

    def __init__(self, fusion: nn.Module, sizes: tuple[int, ...]) -> None:
        super().__init__()
        self.fusion, self.sizes = fusion, sizes

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Turn (B, C, *S / 2) into (B, C, *S)."""
        larger = crop(functional.interpolate(x, scale_factor=2.0, mode="nearest"), [*self.sizes])
        fused: torch.Tensor = self.fusion(larger)
        return fused


def hidden_widths(spec: ModelSpec) -> dict[str, int]:
    """Inner width of each block that has an MLP of its own, by path."""
    return spec.plain_hidden | dict(spec.hidden)


def query_heads(spec: ModelSpec) -> dict[str, int]:
    """Query heads of each block that has attention of its own, by path."""
    return spec.plain_heads | dict(spec.heads)


def _level_of(path: str) -> int:
    """Number of the level that a block's path is in.

    Example:
        >>> _level_of("levels.2.0")
        2
    """
    return int(path.split(".")[1])


def _spatial_of(
    weights: Mapping[str, torch.Tensor], path: str
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Convolutions of a depthwise one, one or parallel, and the norms without any."""
    if f"{path}.identity.weight" not in weights:
        return (path,), ()
    count = sum(name.startswith(f"{path}.branches.") and name.endswith(".0.weight")
                for name in weights)  # fmt: skip
    return tuple(f"{path}.branches.{n}" for n in range(count)), (f"{path}.identity",)


def _shared_names(level: LevelSpec) -> list[str]:
    """Convolutions of a level's first block that its other blocks share."""
    parts = {"none": (), "both": ("attention", "mlp")}.get(level.shared, (level.shared,))
    parts = () if level.block in CONV_BLOCKS else parts
    return [name for part in parts for name in _CONVOLUTIONS[part]]


def _shared_prefixes(level: LevelSpec, block: str) -> dict[str, tuple[str, ...]]:
    """Beginnings of names, by table, that stand for all blocks of a level."""
    names = _shared_names(level)
    return {
        "weights": tuple(f"{block}.{name}.0." for name in names),
        **dict.fromkeys(("ranks", "bits"), tuple(f"{block}.{name}." for name in names)),
        "hidden": (f"{block}.",) if "expand" in names else (),
        "heads": (f"{block}.",) if "attention.project_in" in names else (),
    }


def _move(
    table: Mapping[str, Any], *, level: int, index: int, shared: tuple[str, ...]
) -> dict[str, Any]:
    """Table without one block's names, those behind it renumbered; shared names stay.

    Example:
        >>> _move({"levels.1.0": 8, "levels.1.1": 9, "stem": 1}, level=1, index=0, shared=())
        {'levels.1.0': 9, 'stem': 1}
    """
    moved = {}
    for name, value in table.items():
        parts = name.split(".")
        if parts[:2] == ["levels", str(level)]:
            block = int(parts[2])
            if block == index and not f"{name}.".startswith(shared):
                continue
            if block > index:
                name = ".".join([*parts[:2], str(block - 1), *parts[3:]])
        moved[name] = value
    return moved


def _change(spec: ModelSpec, number: int, **changes: Any) -> tuple[LevelSpec, ...]:
    """Levels of a network, one of them changed."""
    levels = list(spec.levels)
    levels[number] = replace(levels[number], **changes)
    return tuple(levels)


def _divide(sizes: tuple[int, ...], stride: int) -> tuple[int, ...]:
    return tuple(-(-size // stride) for size in sizes)
