"""Connected components of a label map of any size, slab by slab: exact, in little memory."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import sparse

SLAB_VOXELS = 2**22
"""Voxels that are labelled at a time; at least one slice."""

# Bits of one of two numbers that are sorted as one.
_HALF = 31
# Offsets along the axes of a plane under which voxels of two neighbouring planes touch.
_ACROSS: dict[int, list[tuple[int, int]]] = {
    6: [(0, 0)],
    26: [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)],
}


@dataclass(frozen=True)
class Components:
    """Connected components, numbered from 0.

    Attributes:
        sizes: Voxels of each, (N,).
        values: Label of each, (N,).
        on_border: Whether each reaches the border of the map, (N,).
        slabs: Parts of the first axis that are looked at one by one.
        find: Labels the components within one slab, from 1.
        names: For each slab, from a number within it to the component's; -1 for 0.
    """

    sizes: np.ndarray
    values: np.ndarray
    on_border: np.ndarray
    slabs: tuple[slice, ...]
    find: Callable[[slice], np.ndarray] = field(repr=False)
    names: tuple[np.ndarray, ...] = field(repr=False)

    def select(self, chosen: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
        """Number the voxels of some components, slab by slab, where there are any.

        A slab is read again when it is asked for; those before it may have been changed.

        Args:
            chosen: Which, (N,) bool.

        Yields:
            Part of the first axis, and the component of each of its voxels, (n, H, W) int32;
            -1 outside those chosen.
        """
        padded = np.append(chosen, False)  # the last is asked for by -1
        for slab, names in zip(self.slabs, self.names, strict=True):
            wanted = padded[names]
            if wanted.any():
                yield slab, np.where(wanted, names, -1).astype(np.int32)[self.find(slab)]


def find_components(
    read: Callable[[slice], np.ndarray], shape: tuple[int, int, int], *, connectivity: int = 26
) -> Components:
    """Find the connected components of every label of a map.

    Each slab is labelled by itself, and components that touch across two slabs are joined.
    What a slab's labelling costs is needed twice where voxels are asked for, and never kept.

    Args:
        read: Gives a part of the map along its first axis, (n, H, W) uint8; 0 is outside.
        shape: (D, H, W) of the map.
        connectivity: 6 for faces, 26 for corners too.
    """
    import cc3d

    def find(slab: slice) -> np.ndarray:
        label: Any = cc3d.connected_components
        found: np.ndarray = label(read(slab), connectivity=connectivity)
        return found

    thickness = max(1, SLAB_VOXELS // max(1, shape[1] * shape[2]))
    slabs = [slice(low, min(low + thickness, shape[0])) for low in range(0, shape[0], thickness)]
    firsts = [0]
    sizes: list[np.ndarray] = []
    values: list[np.ndarray] = []
    on_border: list[np.ndarray] = []
    links = [np.zeros((0, 2), np.int64)]
    before: tuple[np.ndarray, np.ndarray] | None = None
    for slab in slabs:
        array, parts = read(slab), find(slab)
        count = int(parts.max(initial=0))
        sizes.append(np.bincount(parts.ravel(), minlength=count + 1)[1:])
        values.append(_values(array, parts, count))
        on_border.append(_reach_border(parts, count, first=slab.start == 0, last=slab is slabs[-1]))
        if before is not None:
            links.append(_link(before, (array[0], parts[0]), firsts[-2:], connectivity))
        # Only a plane is kept; a view would keep the slab.
        before = array[-1].copy(), parts[-1].copy()
        firsts.append(firsts[-1] + count)
    return _join(firsts, sizes, values, on_border, np.concatenate(links), slabs, find)


def _values(array: np.ndarray, parts: np.ndarray, count: int) -> np.ndarray:
    """Give the label of each component of a slab, (count,)."""
    values = np.zeros(count + 1, np.uint8)
    values[parts] = array
    return values[1:]


def _link(
    before: tuple[np.ndarray, np.ndarray],
    after: tuple[np.ndarray, np.ndarray],
    firsts: list[int],
    connectivity: int,
) -> np.ndarray:
    """Find the pairs of numbers that are one component across two slabs, (P, 2)."""
    keys = []
    height, width = before[0].shape
    # Where a voxel continues straight across, its diagonal neighbours touch it within the slab.
    straight = before[0] == after[0]
    for down, right in _ACROSS[connectivity]:
        here = _shifted(height, -down), _shifted(width, -right)
        there = _shifted(height, down), _shifted(width, right)
        low, high = before[0][here], after[0][there]
        same = (low == high) & (low > 0)
        if down or right:
            same &= ~straight[here]
        first = before[1][here][same].astype(np.int64) + (firsts[0] - 1)
        second = after[1][there][same].astype(np.int64) + (firsts[1] - 1)
        key = first << _HALF | second
        keys.append(key[np.append(True, key[1:] != key[:-1])] if key.size else key)
    unique = np.unique(np.concatenate(keys))
    return np.stack([unique >> _HALF, unique & (1 << _HALF) - 1], axis=1)


def _shifted(size: int, by: int) -> slice:
    """Give the part of an axis that remains if it is laid over itself, shifted."""
    return slice(max(0, by), size + min(0, by))


def _reach_border(parts: np.ndarray, count: int, *, first: bool, last: bool) -> np.ndarray:
    """Tell which components of a slab lie at the border of the map, (count,) bool."""
    reach = np.zeros(count + 1, bool)
    for face in (parts[:, 0], parts[:, -1], parts[:, :, 0], parts[:, :, -1]):
        reach[np.unique(face)] = True
    if first:
        reach[np.unique(parts[0])] = True
    if last:
        reach[np.unique(parts[-1])] = True
    return reach[1:]


def _join(
    firsts: list[int],
    sizes: list[np.ndarray],
    values: list[np.ndarray],
    on_border: list[np.ndarray],
    links: np.ndarray,
    slabs: list[slice],
    find: Callable[[slice], np.ndarray],
) -> Components:
    """Give numbers of slabs that are linked one name."""
    total = firsts[-1]
    graph = sparse.coo_array((np.ones(len(links), bool), tuple(links.T)), shape=(total, total))
    count, names = sparse.csgraph.connected_components(graph, directed=False)
    value = np.zeros(count, np.uint8)
    reach = np.zeros(count, bool)
    if total:
        value[names] = np.concatenate(values)
        reach[names[np.concatenate(on_border)]] = True
    all_sizes = np.concatenate(sizes) if sizes else np.zeros(0, np.int64)
    return Components(
        sizes=np.bincount(names, weights=all_sizes, minlength=count).astype(np.int64),
        values=value,
        on_border=reach,
        slabs=tuple(slabs),
        find=find,
        names=tuple(
            np.concatenate([[-1], names[low:high]]) for low, high in itertools.pairwise(firsts)
        ),
    )
