"""Units to prune: those that gain most time for the importance that is lost.

Units belong to groups (`compression.groups`): inner channels of a block, channels of a
level, heads, whole blocks. The cost of a group's units comes from the table of block
times, by removing a quarter of them. Then units are removed from all groups, a few at a time and
those with the least importance per gain first, until the gain is what was asked for.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from bedside.autopilot.evaluator import CandidateEvaluator
from bedside.autopilot.state import Cost
from bedside.autopilot.target import CHANNELS
from bedside.compression.groups import Group, list_groups
from bedside.compression.importance import Importance
from bedside.compression.prune import shrink
from bedside.models import TrainedNetwork, count_parameters, create
from bedside.spec import ModelSpec

# No group loses more than this part of its units in one step.
_MOST = 0.5
# A slice that gains more than this, over what is wanted, is left to another step.
_LARGEST_SLICE = 1.5
# A gain below this part of the whole is within the error of timing.
_LEAST_GAIN = 0.001


@dataclass(frozen=True)
class Pruned:
    """A pruned network, as a proposal.

    Attributes:
        about: Groups that become narrower, with their widths.
        network: The network after it, before finetuning.
    """

    about: str
    network: TrainedNetwork


@dataclass(frozen=True)
class UnitSlice:
    """Units of a group that are removed together.

    Attributes:
        group: Name of the group.
        units: How many.
        gain: Part of the network's cost that they take.
        loss: Importance that is lost.
    """

    group: str
    units: int
    gain: float
    loss: float


def propose_pruning(
    evaluator: CandidateEvaluator,
    network: TrainedNetwork,
    *,
    precision: str,
    cost: Cost,
    share: float,
) -> Pruned | None:
    """Choose units to remove.

    Args:
        evaluator: Times of blocks, and training images.
        network: What to prune.
        precision: How it is computed.
        cost: Whether time or size is to be gained.
        share: How much of the network's cost.

    Returns:
        The network without them; None if no removal gains anything.
    """
    price = Price(evaluator, precision, cost)
    groups = list_groups(network)
    if not groups:
        return None
    # Units of different groups are compared by the gradients of their gates; units of one
    # group, by how well the others can replace them.
    between, within = (
        evaluator.importance(network, method) for method in ("fisher", "reconstruction")
    )
    multiple = evaluator.effort.multiple
    gains = price.of_units(network, within, groups)
    slices = list_slices(groups, between, gains, multiple=multiple)
    slices = [each for each in slices if each.gain <= _LARGEST_SLICE * share]
    chosen = choose_slices(
        slices, lambda some: price.of_slices(network, within, groups, some), share
    )
    pruned = remove_units(network, within, groups, chosen, multiple=multiple)
    about = describe(network, pruned)
    return Pruned(about, pruned) if about else None


class Price:
    """What a network costs: its time by the table of blocks, or the number of its weights.

    Args:
        evaluator: Times of blocks.
        precision: How networks are computed.
        cost: Which of the two.
    """

    def __init__(self, evaluator: CandidateEvaluator, precision: str, cost: Cost) -> None:
        self.evaluator, self.precision, self.cost = evaluator, precision, cost

    def __call__(self, spec: ModelSpec) -> float:
        """Return the price of the network of a spec."""
        if self.cost == "ms":
            return self.evaluator.predict([spec], self.precision)[0]
        # Heads for training are not in a bundle.
        bare = replace(spec, deep_supervision=False, boundary=False)
        return float(count_parameters(create(bare)))

    def of_units(
        self, network: TrainedNetwork, importance: Importance, groups: Mapping[str, Group]
    ) -> dict[str, float]:
        """Return what a unit of each group costs, as a part of the whole: a quarter is removed."""
        specs, going = {}, {}
        bare = replace(importance, inputs=None)
        for name, group in groups.items():
            step = _step(group, self.evaluator.effort.multiple)
            units = max(step, round(group.units / 4 / step) * step)
            if units < group.units or group.blocks:
                width = group.units - units
                specs[name] = shrink(network, bare, part=name, width=width).spec
                going[name] = units
        if self.cost == "ms":
            self.evaluator.predict(list(specs.values()), self.precision)
        whole = self(network.spec)
        prices = {name: (1 - self(spec) / whole) / going[name] for name, spec in specs.items()}
        return {name: prices.get(name, 0.0) for name in groups}

    def of_slices(
        self,
        network: TrainedNetwork,
        importance: Importance,
        groups: Mapping[str, Group],
        slices: list[UnitSlice],
    ) -> float:
        """Return what some slices cost together, as a part of the whole."""
        # Nothing is compensated where only widths are asked for.
        bare = replace(importance, inputs=None)
        multiple = self.evaluator.effort.multiple
        spec = remove_units(network, bare, groups, slices, multiple=multiple).spec
        return 1 - self(spec) / self(network.spec)


def list_slices(
    groups: Mapping[str, Group],
    importance: Importance,
    gains: Mapping[str, float],
    *,
    multiple: int = CHANNELS,
) -> list[UnitSlice]:
    """Cut groups into slices, least importance per gain first; within a group likewise.

    Args:
        groups: All groups by name.
        importance: Of their units.
        gains: What a unit of each gains, as a part of the whole.
        multiple: Channels that are removed together.
    """
    slices = []
    for name, group in groups.items():
        size = _step(group, multiple)
        if gains[name] * size < _LEAST_GAIN:
            continue
        scores = importance.of(group).sort().values.tolist()
        most = group.units if group.blocks else int(group.units * _MOST)
        for begin in range(0, most - size + 1, size):
            if begin + size >= group.units and not group.blocks:
                break
            loss = sum(scores[begin : begin + size])
            slices.append(UnitSlice(name, size, gains[name] * size, loss))
    return sorted(slices, key=lambda each: each.loss / each.gain)


def choose_slices(
    slices: list[UnitSlice], gain_of: Callable[[list[UnitSlice]], float], wanted: float
) -> list[UnitSlice]:
    """The first slices that together gain what is wanted.

    The gain of several slices is not the sum of their gains, so it is asked for.

    Args:
        slices: Least importance per gain first.
        gain_of: Returns what some slices gain together, as a part of the whole.
        wanted: What they should gain.

    Returns:
        The fewest that gain it; all of them if that is not enough.

    Example:
        >>> slices = [UnitSlice(name, 8, 0.1, 1.0) for name in "abcd"]
        >>> len(choose_slices(slices, lambda some: 0.08 * len(some), 0.15))
        2
    """
    low, high = 0, len(slices)
    while low < high:
        middle = (low + high) // 2
        if gain_of(slices[:middle]) >= wanted:
            high = middle
        else:
            low = middle + 1
    return slices[:low]


def remove_units(
    network: TrainedNetwork,
    importance: Importance,
    groups: Mapping[str, Group],
    slices: list[UnitSlice],
    *,
    multiple: int = CHANNELS,
) -> TrainedNetwork:
    """Shrink every group by its slices; blocks last, because that renumbers those behind.

    Channels that stay are rounded up to a multiple, so that a network of other widths comes to
    those of a chip.
    """
    going: dict[str, int] = {}
    for each in slices:
        going[each.group] = going.get(each.group, 0) + each.units
    dropped = {name for name in going if groups[name].blocks}
    for name in sorted(going, key=lambda name: (name in dropped, name)):
        units, step = groups[name].units, _step(groups[name], multiple)
        width = min(units, -(-(units - going[name]) // step) * step)
        if width < units:
            network = shrink(network, importance, part=name, width=width)
    return network


def describe(before: TrainedNetwork, after: TrainedNetwork) -> str:
    """Groups that became narrower, with their widths.

    Example:
        >>> from bedside.models import create, named_spec
        >>> from bedside.compression.prune import keep_units
        >>> spec = named_spec("nano")
        >>> network = TrainedNetwork.of(create(spec), spec)
        >>> describe(network, keep_units(network, {"stem": range(8)}))
        'stem 16 to 8'
    """
    old = {name: group.units for name, group in list_groups(before).items()}
    new = {name: group.units for name, group in list_groups(after).items()}
    blocks = [name for name in old if name.startswith("blocks.") and new.get(name, 0) < old[name]]
    changed = [f"{name} {old[name]} to {new.get(name, 0)}" for name in blocks]
    levels = {name.split(".", 1)[1] for name in blocks}
    for name, units in old.items():
        # In a level that lost blocks, numbers of blocks have changed.
        renumbered = any(f".{level}." in name for level in levels)
        if name not in blocks and not renumbered and new.get(name, units) < units:
            changed.append(f"{name} {units} to {new[name]}")
    return ", ".join(changed)


def _step(group: Group, multiple: int) -> int:
    """Number of units of a group that are removed together."""
    if group.blocks:
        return 1
    return group.divisor if group.width > 1 or group.divisor > 1 else multiple
