"""Groups of units that can only be pruned everywhere at once, as the architecture lists them."""

from bedside.errors import UsageError
from bedside.models import TrainedNetwork, find_structure
from bedside.models.structure import Group

__all__ = ["Group", "find_group", "list_groups"]


def list_groups(network: TrainedNetwork) -> dict[str, Group]:
    """All groups of a network, by name; none if its architecture offers none."""
    return find_structure(network.spec).groups(network.weights)


def find_group(network: TrainedNetwork, name: str) -> Group:
    """One group of a network.

    Raises:
        UsageError: If the network has none of that name, or its architecture offers none.
    """
    groups = list_groups(network)
    if not groups:
        find_structure(network.spec).refuse("groups of units to prune")
    if name not in groups:
        raise UsageError(f'the network has no group "{name}"; choose one of {", ".join(groups)}.')
    return groups[name]
