"""The mapping between a scan and the network's tensor."""

import functools
import itertools
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from bedside.pipeline.logits import Place, check_grid, find_place, find_place_at, most_likely
from bedside.pipeline.resize import nearest_indices
from bedside.system.parallel import ordered_map
from bedside.volume import Orientation, UnevenSlices

Shape3 = tuple[int, int, int]


@dataclass(frozen=True)
class VolumeTransform:
    """The mapping from scan to tensor: axes reoriented, resized edge to edge, and padded.

    Uneven slices are seen on an even grid, and each gets the labels of its own place on it.

    Attributes:
        source_shape: (D, H, W) as stored.
        orientation: How the stored axes were turned.
        grid: (D, H, W) after turning and resampling.
        offset: Where the grid begins in the tensor, which is padded to at least a window.
        tensor_shape: (D, H, W) of the tensor.
        body: Part of the stored scan that is looked at; None for all of it. What is said of
            the source above is then said of this part, but for `source_shape`.
        uneven: Where the slices lie, if they are uneven; `body` is then of the even grid.
    """

    source_shape: Shape3
    orientation: Orientation
    grid: Shape3
    offset: Shape3
    tensor_shape: Shape3
    body: tuple[slice, ...] | None = None
    uneven: UnevenSlices | None = None

    def project(self, labels: np.ndarray) -> np.ndarray:
        """Labels on the tensor's grid, by nearest neighbour.

        Args:
            labels: (D, H, W) uint8 on the source grid.

        Returns:
            `tensor_shape` uint8; 0 in the padding.

        Raises:
            GeometryError: If the labels are on another grid.
        """
        check_grid(labels.shape, self.source_shape, "the labels")
        if self.uneven is not None:
            labels = labels[self.uneven.find_owners(self.uneven.lay_grid())]
        turned = self.orientation.apply(labels if self.body is None else labels[self.body])
        picks = [
            nearest_indices(old, new) for old, new in zip(turned.shape, self.grid, strict=True)
        ]
        tensor = np.zeros(self.tensor_shape, np.uint8)
        pairs = zip(self.offset, self.grid, strict=True)
        tensor[tuple(slice(low, low + size) for low, size in pairs)] = turned[np.ix_(*picks)]
        return tensor

    def pad(self, array: np.ndarray) -> np.ndarray:
        """(C, *grid) padded with zeros to the tensor, float32."""
        whole = tuple(slice(0, size) for size in self.tensor_shape)
        return self.cut(array, whole)

    def cut(self, array: np.ndarray, inside: tuple[slice, ...]) -> np.ndarray:
        """Part of the tensor from (C, *grid), without building the tensor.

        Args:
            array: The scan on the grid, any real dtype.
            inside: Slices of the tensor's axes, with both ends.

        Returns:
            (C, *sizes of the slices) float32; 0 outside the grid.
        """
        places, sources = [], []
        for part, low, size in zip(inside, self.offset, self.grid, strict=True):
            begin = min(max(part.start - low, 0), size)
            end = min(max(part.stop - low, begin), size)
            sources.append(slice(begin, end))
            places.append(slice(begin + low - part.start, end + low - part.start))
        cut = np.zeros((len(array), *(part.stop - part.start for part in inside)), np.float32)
        cut[(slice(None), *places)] = array[(slice(None), *sources)]
        return cut

    def restore(
        self,
        slabs: Iterable[np.ndarray],
        *,
        stride: int,
        probabilities: np.ndarray | None = None,
    ) -> np.ndarray:
        """Labels on the source grid: logits are interpolated to it and compared there.

        This is done slice by slice, so that no more logits are held on the source grid.

        Args:
            slabs: (K, n, H, W) float32 logits, slab after slab along the tensor's first axis;
                a slab is not used any more once the next is asked for.
            stride: Tensor voxels for one logit.
            probabilities: (K, D, H, W) float32 that the softmax of the interpolated logits is
                written to; background has 1 where no logits lie.

        Returns:
            (D, H, W) uint8 on the source grid.

        Raises:
            GeometryError: If the logits are not those of the whole tensor.
        """
        labels = np.zeros(self.source_shape, np.uint8)
        coarse = tuple(side // stride for side in self.tensor_shape)
        within, places = self._find_slices()
        # Views, so that slices written in the patient's order end up in the stored one.
        seen = (within, *(self.body[1:] if self.body is not None else ()))
        turned = self.orientation.apply(labels[seen])
        chances: Iterator[np.ndarray | None] = itertools.repeat(None)
        if probabilities is not None:
            probabilities.fill(0)
            probabilities[0] = 1
            chances = iter(self.orientation.apply(probabilities[:, *seen]).swapaxes(0, 1))
        depths, place = self._find_planes(turned.shape, places, stride=stride)
        known, done = 0, 0
        before: np.ndarray | None = None
        for slab in slabs:
            check_grid(slab.shape[2:], coarse[1:], "logits of a slice")
            end = known + slab.shape[1]
            ready = int(np.searchsorted(np.ceil(depths), end))
            draw = functools.partial(_draw_slice, slab, before=before, place=place)
            wanted = zip(depths[done:ready] - known, chances, strict=False)
            for labelled in ordered_map(draw, wanted):
                turned[done] = labelled
                done += 1
            before, known = slab[:, -1].copy(), end
        check_grid((known,), coarse[:1], "slices of logits")
        return labels

    def _find_planes(
        self, shape: tuple[int, ...], places: np.ndarray | None, *, stride: int
    ) -> tuple[np.ndarray, Place]:
        """Positions of the oriented scan's slices among those of the logits, and of its pixels.

        Args:
            shape: (D, H, W) of the scan, turned.
            places: See `_find_slices`.
            stride: Tensor voxels for one logit.

        Returns:
            (D,) in slices of the logits, and from a plane of logits to (H, W).
        """
        depths, rows, columns = (
            self._find_logits(axis, size, places, stride=stride) for axis, size in enumerate(shape)
        )
        if self.uneven is not None and self.orientation.order[0] != 0:
            _, height, width = (side // stride for side in self.tensor_shape)
            return depths, find_place_at(rows, columns, (height, width))
        return depths, find_place(
            (shape[1], shape[2]),
            begin=(self.offset[1] / stride, self.offset[2] / stride),
            size=(self.grid[1] / stride, self.grid[2] / stride),
        )

    def _find_slices(self) -> tuple[slice, np.ndarray | None]:
        """The stored slices inside `body`, and their positions in slices of the even grid.

        Returns:
            Part of the stored first axis, and places in frames from the first one seen; None
            where slices are even.
        """
        if self.uneven is None:
            return slice(None) if self.body is None else self.body[0], None
        grid = self.uneven.lay_grid()
        places = (np.array(self.uneven.heights_mm) - grid[0]) / (grid[1] - grid[0])
        along = slice(0, len(grid)) if self.body is None else self.body[0]
        begin, end = np.searchsorted(places, (along.start - 0.5, along.stop - 0.5)).tolist()
        return slice(begin, end), places[begin:end] - along.start

    def _find_logits(
        self, axis: int, size: int, places: np.ndarray | None, *, stride: int
    ) -> np.ndarray:
        """Positions of the scan's elements along an axis of the logits, (size,).

        Edge to edge, as the scan was resized; padding is ignored.
        """
        count = self.grid[axis] / stride
        if places is None or self.orientation.order[axis] != 0:
            middles = (np.arange(size) + 0.5) * (count / size) - 0.5
        else:
            frames = self._count_frames()
            turned = (frames - 1 - places)[::-1] if self.orientation.reversed[axis] else places
            middles = (turned + 0.5) * (count / frames) - 0.5
        found: np.ndarray = self.offset[axis] / stride + np.clip(middles, 0, max(count - 1, 0))
        return found

    def _count_frames(self) -> int:
        """Number of slices of the even grid inside `body`."""
        assert self.uneven is not None  # callers look
        if self.body is not None:
            return int(self.body[0].stop - self.body[0].start)
        return len(self.uneven.lay_grid())


def _draw_slice(
    slab: np.ndarray,
    wanted: tuple[float, np.ndarray | None],
    *,
    before: np.ndarray | None,
    place: Place,
) -> np.ndarray:
    """Labels of a plane between two slices of a slab.

    Args:
        slab: (K, n, h, w) logits.
        wanted: Depth in slices of the slab, from -1, which is `before`, to n - 1; and the
            (K, H, W) that probabilities are written to, if any.
        before: The slice before the slab, (K, h, w).
        place: See `find_place`.

    Returns:
        (H, W) uint8.
    """
    depth, probabilities = wanted
    low = math.floor(depth)
    share = np.float32(depth - low)
    near = slab[:, low] if low >= 0 else before
    assert near is not None  # what lies before a slab was the end of the last
    if share:
        near = near + share * (slab[:, low + 1] - near)
    return most_likely(near, place, probabilities=probabilities)
