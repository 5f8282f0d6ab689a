"""Structured pruning: channels, heads and blocks that are gone from spec and weights alike."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from bedside.compression.groups import (
    Group,
    block_paths,
    find_group,
    hidden_widths,
    list_groups,
    query_heads,
)
from bedside.compression.importance import Importance
from bedside.compression.input_statistics import Inputs
from bedside.compression.slicing import cut, drop_full_ranks
from bedside.errors import UsageError
from bedside.models import TrainedNetwork
from bedside.spec import LevelSpec, ModelSpec

Kept = Sequence[int] | torch.Tensor


def keep_hidden(
    network: TrainedNetwork, kept: Mapping[str, Kept], inputs: Inputs | None = None
) -> TrainedNetwork:
    """Keep some inner channels of blocks' MLPs and inverted residuals.

    Args:
        network: What to prune.
        kept: Numbers of the channels that stay, by path of the block. Where a level shares
            its MLP, the first block stands for all.
        inputs: From `measure_inputs`; with them, what reads the channels makes up for those
            that go by those that stay, as well as a linear map can. It costs nothing later.

    Raises:
        UsageError: If there is no such block or channel, or none would be left.

    Example:
        >>> from bedside.models import create, named_spec
        >>> spec = named_spec("nano")
        >>> network = TrainedNetwork.of(create(spec), spec)
        >>> keep_hidden(network, {"levels.0.0": range(16)}).spec.hidden
        {'levels.0.0': 16}
    """
    return _keep_all(network, {f"hidden.{path}": units for path, units in kept.items()}, inputs)


def keep_heads(
    network: TrainedNetwork, kept: Mapping[str, Kept], inputs: Inputs | None = None
) -> TrainedNetwork:
    """Keep some query heads of blocks; keys and values stay.

    Args:
        network: What to prune.
        kept: Numbers of the heads that stay, by path of the block, or of a level's
            exchange, which comes behind its blocks.
        inputs: As in `keep_hidden`.

    Raises:
        UsageError: If there is no such block or head, or other numbers of heads would be
            left to one window, or to one head of keys, than to the others.
    """
    return _keep_all(network, {f"heads.{path}": units for path, units in kept.items()}, inputs)


def keep_level_channels(
    network: TrainedNetwork, level: int, kept: Kept, inputs: Inputs | None = None
) -> TrainedNetwork:
    """Keep some channels of a level: in its blocks, in what leads to it, and in what reads it."""
    return _keep_all(network, {f"channels.levels.{level}": kept}, inputs)


def keep_stem(network: TrainedNetwork, kept: Kept, inputs: Inputs | None = None) -> TrainedNetwork:
    """Keep some channels between the two convolutions of the stem."""
    return _keep_all(network, {"stem": kept}, inputs)


def keep_decoder(
    network: TrainedNetwork, kept: Kept, inputs: Inputs | None = None
) -> TrainedNetwork:
    """Keep some channels of the decoder, and of the heads that read it."""
    return _keep_all(network, {"decoder": kept}, inputs)


def drop_block(network: TrainedNetwork, level: int, index: int) -> TrainedNetwork:
    """Take a whole block away; what it was given goes on as it is.

    If other blocks borrow its convolutions, the first of them takes them over.

    Args:
        network: What to prune.
        level: Number of the level.
        index: Number of the block; that of a level's exchange comes behind its blocks'.

    Raises:
        UsageError: If there is no such block.
    """
    spec = network.spec
    paths = block_paths(spec, level) if 0 <= level < len(spec.levels) else []
    if not 0 <= index < len(paths):
        raise UsageError(f"there is no block {index} in level {level}; it has {len(paths)} blocks.")
    level_spec = spec.levels[level]
    if index == level_spec.depth:
        changed = replace(level_spec, exchange_window=0)
    else:
        changed = replace(level_spec, depth=level_spec.depth - 1)
    lent = _lent(level_spec, paths[0]) if index == 0 and level_spec.depth > 1 else {}

    def move(table: Mapping[str, Any], part: str) -> dict[str, Any]:
        return _move(table, level=level, index=index, lent=lent.get(part, ()))

    new_spec = replace(
        spec,
        levels=tuple(changed if n == level else other for n, other in enumerate(spec.levels)),
        hidden=move(spec.hidden, "hidden"),
        heads=move(spec.heads, "heads"),
        ranks=move(spec.ranks, "ranks"),
        bits=move(spec.bits, "bits"),
    )
    return TrainedNetwork(new_spec, move(network.weights, "weights"))


def shrink(
    network: TrainedNetwork,
    importance: Importance,
    *,
    part: str,
    ratio: float | None = None,
    width: int | None = None,
    round_to: int = 8,
) -> TrainedNetwork:
    """Take away what is least important of one part, down to a width that kernels like.

    What reads the part makes up for what goes by what stays, if the importance knows the
    inputs; nothing of it is left to be done at inference.

    Args:
        network: The network that the importance was measured on, but for other parts that
            have been shrunk since; blocks are dropped last, because it numbers them anew.
        importance: From `measure_importance`.
        part: A group, such as "hidden.levels.1.0" or "decoder", or all of a kind, such as
            "hidden" or "channels".
        ratio: Share of the units that goes, in [0, 1); of each group.
        width: Units that stay, in place of `ratio`, as they are.
        round_to: What widths by `ratio` are multiples of; heads and blocks go one by one.

    Raises:
        UsageError: If there is no such part, it has not been measured, or the ratio or the
            width leaves nothing.
    """
    if (ratio is None) == (width is None):
        raise UsageError("give either ratio, the share that goes, or width, what stays.")
    names = [name for name in list_groups(network) if name == part or part == name.split(".")[0]]
    if not names:
        raise UsageError(f'no part "{part}"; choose one of {", ".join(list_groups(network))}.')
    for name in names:
        group = find_group(network, name)
        scores = importance.of(group)
        target = choose_width(group, ratio, round_to=round_to) if width is None else width
        kept = choose_units(scores, target, divisor=group.divisor)
        if group.blocks:
            network = _keep_blocks(network, group, kept)
        else:
            network = _keep(network, group, kept, importance.inputs)
    return network


def choose_width(group: Group, ratio: float | None, *, round_to: int = 8) -> int:
    """Say how many units stay: near what the ratio says, a multiple, and never none.

    Example:
        >>> [choose_width(Group("decoder", units=32), r) for r in (0.25, 0.4, 0.99)]
        [24, 16, 8]
        >>> choose_width(Group("hidden.levels.0.0", units=6), 0.5)
        6
    """
    if ratio is None or not 0 <= ratio < 1:
        raise UsageError(f"ratio is {ratio}; expected at least 0 and below 1.")
    step = group.divisor if group.width > 1 or group.divisor > 1 else round_to
    if group.blocks:
        return round(group.units * (1 - ratio))
    wanted = round(group.units * (1 - ratio) / step) * step
    return min(max(wanted, step), group.units)


def choose_units(scores: torch.Tensor, width: int, *, divisor: int = 1) -> torch.Tensor:
    """Number the most important units, as many of each lot, ascending.

    Example:
        >>> choose_units(torch.tensor([3.0, 1.0, 4.0, 1.5]), 2).tolist()
        [0, 2]
        >>> choose_units(torch.tensor([3.0, 1.0, 4.0, 5.0]), 2, lots=2).tolist()
        [0, 3]
    """
    if width % divisor:
        raise UsageError(f"{width} units cannot stay in {divisor} lots evenly; choose a multiple.")
    best = scores.reshape(divisor, -1).argsort(dim=1, descending=True, stable=True)
    first = torch.arange(divisor)[:, None] * (len(scores) // divisor)
    return (best[:, : width // divisor] + first).flatten().sort().values


def _keep_all(
    network: TrainedNetwork, kept: Mapping[str, Kept], inputs: Inputs | None
) -> TrainedNetwork:
    for name, units in kept.items():
        network = _keep(network, find_group(network, name), torch.as_tensor(units), inputs)
    return network


def _keep(
    network: TrainedNetwork, group: Group, kept: torch.Tensor, inputs: Inputs | None
) -> TrainedNetwork:
    """Keep some units of one group, in the weights and in the spec."""
    kept = kept.long().sort().values
    _check_kept(group, kept)
    _check_inputs(group, inputs)
    weights = cut(network.weights, group, kept, inputs)
    spec, weights = drop_full_ranks(_narrow(network.spec, group.name, len(kept)), weights)
    return TrainedNetwork(spec, weights)


def _check_kept(group: Group, kept: torch.Tensor) -> None:
    units = kept.tolist()
    if not units or units[0] < 0 or units[-1] >= group.units or len(set(units)) < len(units):
        raise UsageError(
            f"{group.name} keeps {units}; expected at least one of 0 to {group.units - 1}, each "
            "once."
        )
    divisor = torch.bincount(
        kept // (group.units // group.divisor), minlength=group.divisor
    ).tolist()
    if len(set(divisor)) > 1:
        raise UsageError(
            f"{group.name} keeps {divisor} of its {group.divisor} runs of heads that share a "
            "window or "
            "a head of keys; expected equally many of each."
        )


def _check_inputs(group: Group, inputs: Inputs | None) -> None:
    for path in group.ins if inputs else ():
        if inputs and path in inputs and len(inputs[path].mean) != group.units * group.width:
            raise UsageError(
                f"{path} reads {group.units * group.width} channels, and its inputs were measured "
                f"when there were {len(inputs[path].mean)}: measure them on this network."
            )


def _narrow(spec: ModelSpec, name: str, units: int) -> ModelSpec:
    """Say in the spec that a group has so many units; all other widths stay what they are."""
    kind, *rest = name.split(".")
    hidden, heads = hidden_widths(spec), query_heads(spec)
    changes: dict[str, Any] = {}
    if kind == "hidden":
        hidden[".".join(rest)] = units
    elif kind == "heads":
        heads[".".join(rest)] = units
    elif kind == "channels":
        number = int(rest[1])
        levels = list(spec.levels)
        levels[number] = replace(levels[number], channels=units)
        changes["levels"] = tuple(levels)
    else:
        changes[f"{kind}_channels"] = units
    bare = replace(spec, hidden={}, heads={}, **changes)
    return replace(
        bare,
        hidden={path: n for path, n in hidden.items() if n != bare.plain_hidden[path]},
        heads={path: n for path, n in heads.items() if n != bare.plain_heads[path]},
    )


def _keep_blocks(network: TrainedNetwork, group: Group, kept: torch.Tensor) -> TrainedNetwork:
    """Drop the blocks of a level that do not stay, from behind, so that numbers hold."""
    number, staying = int(group.name.rsplit(".", 1)[1]), set(kept.tolist())
    for index in reversed(range(group.units)):
        if index not in staying:
            network = drop_block(network, number, index)
    return network


def _lent(level: LevelSpec, block: str) -> dict[str, tuple[str, ...]]:
    """Say, by table, what of a level's first block is all blocks': beginnings of names."""
    attention = level.shared in ("attention", "both")
    mlp = level.shared in ("mlp", "both")
    convolutions = ["attention.project_in", "attention.project_out"] if attention else []
    convolutions += ["expand", "project"] if mlp else []
    return {
        "weights": tuple(f"{block}.{name}.0." for name in convolutions),
        **dict.fromkeys(("ranks", "bits"), tuple(f"{block}.{name}." for name in convolutions)),
        "hidden": (f"{block}.",) if mlp else (),
        "heads": (f"{block}.",) if attention else (),
    }


def _move(
    table: Mapping[str, Any], *, level: int, index: int, lent: tuple[str, ...]
) -> dict[str, Any]:
    """Leave one block's names out, and number those behind it anew; what is lent stays.

    Example:
        >>> _move({"levels.1.0": 8, "levels.1.1": 9, "stem": 1}, level=1, index=0, lent=())
        {'levels.1.0': 9, 'stem': 1}
    """
    moved = {}
    for name, value in table.items():
        parts = name.split(".")
        if parts[:2] == ["levels", str(level)]:
            block = int(parts[2])
            if block == index and not f"{name}.".startswith(lent):
                continue
            if block > index:
                name = ".".join([*parts[:2], str(block - 1), *parts[3:]])
        moved[name] = value
    return moved
