"""Connected components of a label map of any size, slab by slab: exact, in little memory."""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from bedside.system.parallel import count_workers, ordered_map

SLAB_VOXELS = 2**22
"""Voxels that are labelled at a time, by all workers together; each has one slice at least."""

# Voxels in which runs are looked for at a time.
_RUN_VOXELS = 2**19
# Bits of one of two numbers that are sorted as one.
_HALF = 31
# Offsets along the axes of a plane under which voxels of two neighbouring planes touch.
_ACROSS: dict[int, list[tuple[int, int]]] = {
    6: [(0, 0)],
    26: [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)],
}


@dataclass(frozen=True)
class ConnectedComponents:
    """Connected components, numbered from 0.

    Attributes:
        sizes: Voxels of each, (N,).
        amounts: The same weighted by the thickness that each slice covers, (N,).
        values: Label of each, (N,).
        on_border: Whether each reaches the border of the map, (N,).
        slabs: Parts of the first axis that are looked at one by one.
        find: Labels the components within one slab, from 1.
        names: For each slab, the component of each number within it, from 1 on.
    """

    sizes: np.ndarray
    amounts: np.ndarray
    values: np.ndarray
    on_border: np.ndarray
    slabs: tuple[slice, ...]
    find: Callable[[slice], np.ndarray] = field(repr=False)
    names: tuple[np.ndarray, ...] = field(repr=False)

    def select(self, chosen: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
        """Component of each voxel, slab by slab, for the chosen components only.

        A slab is read again just before it is yielded; earlier ones may have been changed.

        Args:
            chosen: Which, (N,) bool.

        Yields:
            Part of the first axis, and the component of each of its voxels, (n, H, W) int32;
            -1 outside those chosen.
        """

        def number(part: tuple[slice, np.ndarray]) -> tuple[slice, np.ndarray]:
            slab, names = part
            table = np.append(np.int32(-1), np.where(chosen[names], names, np.int32(-1)))
            return slab, _look_up(table, self.find(slab))

        parts = zip(self.slabs, self.names, strict=True)
        yield from ordered_map(number, (part for part in parts if chosen[part[1]].any()))


def find_components(
    read: Callable[[slice], np.ndarray], shape: tuple[int, int, int], *, connectivity: int = 26,
    shares: np.ndarray | None = None,
) -> ConnectedComponents:  # fmt: skip
    """Connected components of every label of a map.

    Each slab is labelled by itself, and components that touch across two slabs are merged. A slab
    is labelled again when its voxels are asked for, so that no label map of all is held.

    Args:
        read: Returns a part of the map along its first axis, (n, H, W) uint8; 0 is outside.
        shape: (D, H, W) of the map.
        connectivity: 6 for faces, 26 for corners too.
        shares: Thickness that each slice covers, relative to the mean, (D,); None if all are alike.
    """
    import cc3d

    def find(array: np.ndarray) -> np.ndarray:
        label: Any = cc3d.connected_components
        found: np.ndarray = label(array, connectivity=connectivity)
        return found

    thickness = max(1, SLAB_VOXELS // count_workers() // max(1, shape[1] * shape[2]))
    slabs = [slice(low, min(low + thickness, shape[0])) for low in range(0, shape[0], thickness)]

    def look(slab: slice) -> _Part:
        array = read(slab)
        first, last = slab.start == 0, slab.stop == shape[0]
        own = None if shares is None else shares[slab]
        return _describe(array, find(array), own, first=first, last=last)

    sets, firsts = _DisjointSets(), []
    parts: list[_Part] = []
    for part in ordered_map(look, slabs):
        firsts.append(sets.grow(len(part.sizes)))
        if parts:
            sets.join(_link(parts[-1].end, part.begin, firsts[-2:], connectivity))
            parts[-1] = parts[-1]._replace(begin=_NOTHING, end=_NOTHING)
        parts.append(part)
    names, count = sets.number_sets()
    edges = [*firsts, len(names)]
    sizes = _gather([part.sizes for part in parts], names, np.int64, count)
    amounts = sizes
    if shares is not None:
        amounts = _gather([part.amounts for part in parts], names, np.float64, count)
    return ConnectedComponents(
        sizes=sizes,
        amounts=amounts,
        values=_gather([part.values for part in parts], names, np.uint8, count),
        on_border=_gather([part.on_border for part in parts], names, np.bool_, count),
        slabs=tuple(slabs),
        find=lambda slab: find(read(slab)),
        names=tuple(names[low:high] for low, high in itertools.pairwise(edges)),
    )


class _Part(NamedTuple):
    """Components of one slab, numbered from 1 within it.

    Attributes:
        sizes: Voxels of each.
        amounts: The same weighted by slice; empty where they are not.
        values: Label of each.
        on_border: Whether each reaches the border of the map.
        begin: Labels and numbers of its first plane.
        end: Labels and numbers of its last plane.
    """

    sizes: np.ndarray
    amounts: np.ndarray
    values: np.ndarray
    on_border: np.ndarray
    begin: tuple[np.ndarray, np.ndarray]
    end: tuple[np.ndarray, np.ndarray]


_NOTHING = (np.empty(0), np.empty(0))


class _DisjointSets:
    """Disjoint sets of the components of all slabs; each set is one component of the map."""

    def __init__(self) -> None:
        self._above = np.zeros(0, np.int32)
        self._size = 0

    def grow(self, count: int) -> int:
        """Add sets of one number each; return the first number."""
        first, self._size = self._size, self._size + count
        if self._size > len(self._above):
            larger = np.empty(max(self._size, 3 * len(self._above) // 2), np.int32)
            larger[:first] = self._above[:first]
            self._above = larger
        self._above[first : self._size] = np.arange(first, self._size, dtype=np.int32)
        return first

    def join(self, pairs: np.ndarray) -> None:
        """Merge the sets of each pair, (P, 2)."""
        if not len(pairs):
            return
        from scipy import sparse

        roots = self._find_roots(pairs)
        nodes, places = np.unique(roots, return_inverse=True)
        ends = places.reshape(roots.shape).T
        graph = sparse.coo_array((np.ones(len(pairs), bool), tuple(ends)), shape=(len(nodes),) * 2)
        _, groups = sparse.csgraph.connected_components(graph, directed=False)
        # Nodes are sorted, so that the first of a group is the smallest.
        _, first = np.unique(groups, return_index=True)
        self._above[nodes] = nodes[first][groups]

    def number_sets(self) -> tuple[np.ndarray, int]:
        """Return the component of each number, and how many components there are."""
        above = self._above[: self._size]
        while True:
            further = above[above]
            if np.array_equal(further, above):
                break
            above = further
        is_root = above == np.arange(len(above), dtype=np.int32)
        index = np.cumsum(is_root, dtype=np.int32)
        index -= 1
        return index[above], int(is_root.sum())

    def _find_roots(self, numbers: np.ndarray) -> np.ndarray:
        roots: np.ndarray = self._above[numbers]
        while True:
            further: np.ndarray = self._above[roots]
            if np.array_equal(further, roots):
                return roots
            roots = further


def _gather(
    parts: list[np.ndarray], names: np.ndarray, dtype: type[np.generic], count: int
) -> np.ndarray:
    """Sum or maximum over the slabs' parts of each component, (count,)."""
    found = np.zeros(count, dtype)
    begin = 0
    for part in parts:
        own = names[begin : begin + len(part)]
        begin += len(part)
        if dtype in (np.int64, np.float64):
            np.add.at(found, own, part.astype(dtype))
        else:
            np.maximum.at(found, own, part)
    return found


def _describe(
    array: np.ndarray, parts: np.ndarray, shares: np.ndarray | None, *, first: bool, last: bool
) -> _Part:
    """Size, label and border contact of each component of a slab.

    Args:
        array: Its labels, (n, H, W).
        parts: Its components, numbered from 1.
        shares: Relative thickness of each of its slices, (n,); None if all are alike.
        first: Whether it is the first of the map.
        last: Whether it is the last.
    """
    count = int(parts.max(initial=0))
    sizes, values = np.zeros(count + 1), np.zeros(count + 1, np.uint8)
    step = max(1, _RUN_VOXELS // parts[0].size)
    for low in range(0, len(parts), step):
        piece = parts[low : low + step]
        starts, lengths = _find_runs(piece)
        numbers = piece.ravel()[starts]
        sizes += np.bincount(numbers, weights=lengths, minlength=count + 1)
        values[numbers] = array[low : low + step].ravel()[starts]
    return _Part(
        sizes=sizes[1:].astype(np.uint32),
        amounts=_NOTHING[0] if shares is None else _weigh(parts, count, shares),
        values=values[1:],
        on_border=_reach_border(parts, count, first=first, last=last),
        # Only planes are kept; a view would keep the slab.
        begin=(array[0].copy(), parts[0].copy()),
        end=(array[-1].copy(), parts[-1].copy()),
    )


def _weigh(parts: np.ndarray, count: int, shares: np.ndarray) -> np.ndarray:
    """Voxels of each component, weighted by slice, (count,)."""
    planes = zip(parts, shares, strict=True)
    counts = (np.bincount(plane.ravel(), minlength=count + 1) * share for plane, share in planes)
    return np.asarray(sum(counts))[1:]


def _find_runs(parts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Start and length of each run of equal voxels, row after row.

    A look-up per run takes a third of the time of one per voxel, or less.
    """
    flat = parts.ravel()
    starts = np.append(0, np.flatnonzero(flat[1:] != flat[:-1]) + 1)
    return starts, np.diff(starts, append=flat.size)


def _look_up(table: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """Table entry of each voxel of a slab, (n, H, W)."""
    found = np.empty(parts.shape, table.dtype)
    step = max(1, _RUN_VOXELS // parts[0].size)
    for low in range(0, len(parts), step):
        piece = parts[low : low + step]
        starts, lengths = _find_runs(piece)
        found[low : low + step].ravel()[:] = np.repeat(table[piece.ravel()[starts]], lengths)
    return found


def _link(
    before: tuple[np.ndarray, np.ndarray],
    after: tuple[np.ndarray, np.ndarray],
    firsts: list[int],
    connectivity: int,
) -> np.ndarray:
    """Pairs of components that touch across two slabs, (P, 2)."""
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
    """Part of an axis that overlaps itself after a shift."""
    return slice(max(0, by), size + min(0, by))


def _reach_border(parts: np.ndarray, count: int, *, first: bool, last: bool) -> np.ndarray:
    """Whether each component of a slab touches the border of the map, (count,)."""
    reach = np.zeros(count + 1, bool)
    for face in (parts[:, 0], parts[:, -1], parts[:, :, 0], parts[:, :, -1]):
        reach[face] = True
    if first:
        reach[parts[0]] = True
    if last:
        reach[parts[-1]] = True
    return reach[1:]
