"""Which units to take away: those that gain most of the clock for the importance they lose.

Units hang together in groups (`compression.groups`): inner channels of a block, channels of a
level, heads, whole blocks. What a group's units cost is asked of the table of block times, by
taking a quarter of them away; what they matter, of their importance. Then lots of units are
taken from all groups, best bargain first, until the gain is what was asked for.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from bedside.autopilot.evaluator import CandidateEvaluator
from bedside.autopilot.state import Cost
from bedside.compression.groups import Group, list_groups
from bedside.compression.importance import Importance
from bedside.compression.prune import shrink
from bedside.models import TrainedNetwork, count_parameters, create
from bedside.spec import ModelSpec

# Channels go by so many: kernels work on vectors of 8 or 16.
_CHANNELS = 8
# No group loses more than this part of its units in one step.
_MOST = 0.5
# A lot that gains more than this, over what is wanted, is for another step.
_LARGEST_LOT = 1.5
# A gain below this part of the whole is not above what timing leaves open.
_LEAST_GAIN = 0.001


@dataclass(frozen=True)
class Pruned:
    """What pruning proposes.

    Attributes:
        about: Which groups become how wide.
        network: The network after it, not yet healed.
    """

    about: str
    network: TrainedNetwork


@dataclass(frozen=True)
class UnitBundle:
    """Some units of a group that go together.

    Attributes:
        group: Name of the group.
        units: How many.
        gain: Part of the whole network's cost that goes with them.
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
    """Choose units to take away.

    Args:
        evaluator: Knows times of blocks, and training images.
        network: What to prune.
        precision: How it is computed.
        cost: Whether time or size is to be gained.
        share: How much of the network's cost.

    Returns:
        The network without them; None if nothing that may go gains anything.
    """
    price = Price(evaluator, precision, cost)
    groups = list_groups(network)
    if not groups:
        return None
    # Between groups, units compare by what their gates' gradients say of the loss; which of a
    # group's units go is known better by how well the others make up for them.
    between, within = (
        evaluator.importance(network, method) for method in ("fisher", "reconstruction")
    )
    bundles = list_bundles(groups, between, price.of_units(network, within, groups))
    bundles = [bundle for bundle in bundles if bundle.gain <= _LARGEST_LOT * share]
    chosen = choose_bundles(
        bundles, lambda some: price.of_lots(network, within, groups, some), share
    )
    if not chosen:
        return None
    pruned = remove_units(network, within, groups, chosen)
    return Pruned(describe(network, pruned), pruned)


class Price:
    """What a network costs: its time by the table of blocks, or the number of its weights.

    Args:
        evaluator: Knows times of blocks.
        precision: How networks are computed.
        cost: Which of the two.
    """

    def __init__(self, evaluator: CandidateEvaluator, precision: str, cost: Cost) -> None:
        self.evaluator, self.precision, self.cost = evaluator, precision, cost

    def __call__(self, spec: ModelSpec) -> float:
        """Return the price of the network of a spec."""
        if self.cost == "ms":
            return self.evaluator.predict([spec], self.precision)[0]
        # What only trains is not in a bundle.
        bare = replace(spec, deep_supervision=False, boundary=False)
        return float(count_parameters(create(bare)))

    def of_units(
        self, network: TrainedNetwork, importance: Importance, groups: Mapping[str, Group]
    ) -> dict[str, float]:
        """Return what a unit of each group costs, as a part of the whole: a quarter is taken."""
        specs, going = {}, {}
        bare = replace(importance, inputs=None)
        for name, group in groups.items():
            step = _step(group)
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

    def of_lots(
        self,
        network: TrainedNetwork,
        importance: Importance,
        groups: Mapping[str, Group],
        bundles: list[UnitBundle],
    ) -> float:
        """Return what some lots cost together, as a part of the whole."""
        # Nothing is made up for where only widths are asked for.
        bare = replace(importance, inputs=None)
        spec = remove_units(network, bare, groups, bundles).spec
        return 1 - self(spec) / self(network.spec)


def list_bundles(
    groups: Mapping[str, Group], importance: Importance, gains: Mapping[str, float]
) -> list[UnitBundle]:
    """Cut groups into lots, best bargain first; within a group the least important go first.

    Args:
        groups: All groups by name.
        importance: Of their units.
        gains: What a unit of each gains, as a part of the whole.
    """
    bundles = []
    for name, group in groups.items():
        size = _step(group)
        if gains[name] * size < _LEAST_GAIN:
            continue
        scores = importance.of(group).sort().values.tolist()
        most = group.units if group.blocks else int(group.units * _MOST)
        for begin in range(0, most - size + 1, size):
            if begin + size >= group.units and not group.blocks:
                break
            loss = sum(scores[begin : begin + size])
            bundles.append(UnitBundle(name, size, gains[name] * size, loss))
    return sorted(bundles, key=lambda bundle: bundle.loss / bundle.gain)


def choose_bundles(
    bundles: list[UnitBundle], gain_of: Callable[[list[UnitBundle]], float], wanted: float
) -> list[UnitBundle]:
    """Take as many of the best bargains as gain what is wanted.

    What lots gain together is not the sum of what they gain one by one, so it is asked for.

    Args:
        bundles: Best bargain first.
        gain_of: Gives what some lots gain together, as a part of the whole.
        wanted: What they should gain.

    Returns:
        The fewest that gain it; all of them if that is not enough.

    Example:
        >>> lots = [Lot(name, 8, 0.1, 1.0) for name in "abcd"]
        >>> len(choose_lots(lots, lambda some: 0.08 * len(some), 0.15))
        2
    """
    low, high = 0, len(bundles)
    while low < high:
        middle = (low + high) // 2
        if gain_of(bundles[:middle]) >= wanted:
            high = middle
        else:
            low = middle + 1
    return bundles[:low]


def remove_units(
    network: TrainedNetwork,
    importance: Importance,
    groups: Mapping[str, Group],
    bundles: list[UnitBundle],
) -> TrainedNetwork:
    """Shrink every group by its lots; blocks come last, because they number what is behind."""
    going: dict[str, int] = {}
    for bundle in bundles:
        going[bundle.group] = going.get(bundle.group, 0) + bundle.units
    gone = {name for name in going if groups[name].blocks}
    for name in sorted(going, key=lambda name: (name in gone, name)):
        width = groups[name].units - going[name]
        network = shrink(network, importance, part=name, width=width)
    return network


def describe(before: TrainedNetwork, after: TrainedNetwork) -> str:
    """Say which groups became how wide.

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
        # Of a level that lost blocks, the numbers of blocks do not name the same ones.
        renumbered = any(f".{level}." in name for level in levels)
        if name not in blocks and not renumbered and new.get(name, units) < units:
            changed.append(f"{name} {units} to {new[name]}")
    return ", ".join(changed)


def _step(group: Group) -> int:
    """Say how many units of a group go together."""
    if group.blocks:
        return 1
    return group.divisor if group.width > 1 or group.divisor > 1 else _CHANNELS
