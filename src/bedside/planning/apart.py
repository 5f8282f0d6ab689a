"""Values that no mask holds together: two structures, or one that two writers numbered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class ValueGroup:
    """Values of masks that occur together, and with none of another group.

    Attributes:
        values: The values, in their order.
        masks: Number of masks that hold one of them.
        example: The first such case.
    """

    values: tuple[int, ...]
    masks: int
    example: str


def find_apart(held: Mapping[str, Sequence[int]]) -> tuple[ValueGroup, ...]:
    """Group values that occur in disjoint sets of masks.

    Args:
        held: Values in each case's mask; 0, the background, may be among them.

    Returns:
        The groups, by their lowest value; empty if there is one alone.

    Example:
        >>> [group.values for group in find_apart({"a": [0, 1], "b": [0, 255], "c": [0]})]
        [(1,), (255,)]
        >>> find_apart({"a": [1, 2], "b": [2, 3], "c": [3]})
        ()
    """
    groups: list[set[int]] = []
    for values in held.values():
        inside = set(values) - {0}
        joined = [group for group in groups if group & inside]
        if inside:
            groups = [group for group in groups if not group & inside]
            groups.append(inside.union(*joined))
    if len(groups) < 2:
        return ()
    return tuple(_describe(group, held) for group in sorted(groups, key=min))


def _describe(group: set[int], held: Mapping[str, Sequence[int]]) -> ValueGroup:
    cases = [case for case, values in held.items() if group & set(values)]
    return ValueGroup(tuple(sorted(group)), masks=len(cases), example=cases[0])
