"""Structured pruning: channels, heads and blocks are removed from spec and weights."""

from collections.abc import Mapping, Sequence

import torch

from bedside.compression.groups import Group, find_group, list_groups
from bedside.compression.importance import Importance
from bedside.compression.input_statistics import Inputs
from bedside.compression.slicing import cut, drop_full_ranks
from bedside.errors import UsageError
from bedside.models import TrainedNetwork, find_structure

Kept = Sequence[int] | torch.Tensor


def keep_units(
    network: TrainedNetwork, kept: Mapping[str, Kept], inputs: Inputs | None = None
) -> TrainedNetwork:
    """Keep some units of some groups: channels or heads, but not blocks.

    Args:
        network: What to prune.
        kept: Numbers of the units that stay, by name of the group, such as
            {"hidden.levels.0.0": range(16)}.
        inputs: From `measure_inputs`; with them, what reads the units compensates for those
            that are removed by those that stay, as well as a linear map can. It costs nothing
            later.

    Raises:
        UsageError: If there is no such group or unit, none would be left, or other numbers of
            heads would be left to one window, or to one head of keys, than to the others.

    Example:
        >>> from bedside.models import create, named_spec
        >>> spec = named_spec("nano")
        >>> network = TrainedNetwork.of(create(spec), spec)
        >>> keep_units(network, {"hidden.levels.0.0": range(16)}).spec.hidden
        {'levels.0.0': 16}
    """
    for name, units in kept.items():
        network = _keep(network, find_group(network, name), torch.as_tensor(units), inputs)
    return network


def drop_block(network: TrainedNetwork, level: int, index: int) -> TrainedNetwork:
    """Remove a whole block; its input passes unchanged.

    If other blocks share its convolutions, the first of them becomes their owner.

    Args:
        network: What to prune.
        level: Number of the level.
        index: Number of the block; that of a level's exchange comes behind its blocks'.

    Raises:
        UsageError: If there is no such block, or the architecture drops none.
    """
    structure = find_structure(network.spec)
    return TrainedNetwork(*structure.drop_block(network.weights, level, index))


def shrink(
    network: TrainedNetwork,
    importance: Importance,
    *,
    part: str,
    ratio: float | None = None,
    width: int | None = None,
    round_to: int = 8,
) -> TrainedNetwork:
    """Remove the least important units of one part, down to a width that kernels are fast at.

    What reads the part compensates for what is removed, if the importance knows the inputs, at
    no cost at inference.

    Args:
        network: The network that the importance was measured on, but for other parts that
            have been shrunk since; blocks are dropped last, because it numbers them anew.
        importance: From `measure_importance`.
        part: A group, such as "hidden.levels.1.0" or "decoder", or all of a kind, such as
            "hidden" or "channels".
        ratio: Share of the units to remove, in [0, 1); of each group.
        width: Units that stay, in place of `ratio`, as they are.
        round_to: What widths by `ratio` are multiples of; heads and blocks go one by one.

    Raises:
        UsageError: If there is no such part, it has not been measured, or the ratio or the
            width leaves nothing.
    """
    if (ratio is None) == (width is None):
        raise UsageError("give either ratio, the share to remove, or width, what stays.")
    groups = list_groups(network)
    names = [name for name in groups if name == part or part == name.split(".")[0]]
    if groups and not names:
        raise UsageError(f'no part "{part}"; choose one of {", ".join(groups)}.')
    for name in names or [part]:
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
    """Number of units that stay: near the ratio, a multiple, and at least one.

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
    """Numbers of the most important units, equally many of each run, ascending.

    Example:
        >>> choose_units(torch.tensor([3.0, 1.0, 4.0, 1.5]), 2).tolist()
        [0, 2]
        >>> choose_units(torch.tensor([3.0, 1.0, 4.0, 5.0]), 2, divisor=2).tolist()
        [0, 3]
    """
    if width % divisor:
        raise UsageError(f"{width} units cannot stay in {divisor} runs evenly; choose a multiple.")
    best = scores.reshape(divisor, -1).argsort(dim=1, descending=True, stable=True)
    first = torch.arange(divisor)[:, None] * (len(scores) // divisor)
    return (best[:, : width // divisor] + first).flatten().sort().values


def _keep(
    network: TrainedNetwork, group: Group, kept: torch.Tensor, inputs: Inputs | None
) -> TrainedNetwork:
    """Keep some units of one group, in the weights and in the spec."""
    kept = kept.long().sort().values
    _check_kept(group, kept)
    _check_inputs(group, inputs)
    weights = cut(network, group, kept, inputs)
    narrowed = find_structure(network.spec).narrow(group, len(kept))
    spec, weights = drop_full_ranks(narrowed, weights)
    return TrainedNetwork(spec, weights)


def _check_kept(group: Group, kept: torch.Tensor) -> None:
    units = kept.tolist()
    if not units or units[0] < 0 or units[-1] >= group.units or len(set(units)) < len(units):
        raise UsageError(
            f"{group.name} keeps {units}; expected at least one of 0 to {group.units - 1}, each "
            "once."
        )
    counts = torch.bincount(kept // (group.units // group.divisor), minlength=group.divisor)
    if len(set(counts.tolist())) > 1:
        raise UsageError(
            f"{group.name} keeps {counts.tolist()} of its {group.divisor} runs of heads that share "
            "a window or a head of keys; expected equally many of each."
        )


def _check_inputs(group: Group, inputs: Inputs | None) -> None:
    for path in group.ins if inputs else ():
        if inputs and path in inputs and len(inputs[path].mean) != group.units * group.width:
            raise UsageError(
                f"{path} reads {group.units * group.width} channels, and its inputs were measured "
                f"when there were {len(inputs[path].mean)}: measure them on this network."
            )


def _keep_blocks(network: TrainedNetwork, group: Group, kept: torch.Tensor) -> TrainedNetwork:
    """Drop the blocks of a level that do not stay, from behind, so that numbers hold."""
    number, staying = int(group.name.rsplit(".", 1)[1]), set(kept.tolist())
    for index in reversed(range(group.units)):
        if index not in staying:
            network = drop_block(network, number, index)
    return network
