"""Labels of uneven slices on an even grid, for NIfTI, NRRD and distances in mm.

Nothing is interpolated: the labels of a slice are repeated over the part of the patient that it
covers. The grid reaches from the first slice's edge to the last one's, and is fine enough that
edges between slices nearly coincide with edges of its frames: volumes on it are correct.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from bedside.volume import Geometry, ImageSequence, LabelMap

# Frames per thinnest slice to try, and the tolerance of edges in such slices.
_FINENESS = (1, 2, 3, 4)
_NEAR = 0.1


@dataclass(frozen=True)
class EvenGrid:
    """An even grid over uneven slices.

    Attributes:
        geometry: Of the grid.
        owners: For each grid frame the index of its slice.
        step_mm: Distance of frames along the normal.
    """

    geometry: Geometry
    owners: np.ndarray
    step_mm: float

    def repeat(self, array: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the slices of (D, H, W) for each grid frame, without copying all."""
        return (array[index] for index in self.owners)


def find_even_grid(sequence: ImageSequence) -> EvenGrid | None:
    """Return an even grid for the slices of a scan; None if they are even already."""
    uneven, geometry = sequence.uneven, sequence.geometry
    if uneven is None or geometry is None:
        return None
    thin = float(np.quantile(uneven.covered_mm, 0.1, method="lower"))
    for fineness in _FINENESS:
        heights = uneven.lay_grid(fineness=fineness)
        step = float(heights[1] - heights[0])
        edges = (np.array(uneven.edges_mm) - uneven.edges_mm[0]) / step
        if np.abs(edges - np.rint(edges)).max() * step <= _NEAR * thin:
            break
    affine = geometry.affine.copy()
    along = affine[:3, 0] / uneven.mean_mm
    affine[:3, 0] = along * step
    affine[:3, 3] += along * heights[0]
    placed = Geometry((len(heights), *geometry.shape[1:]), affine, space="LPS")
    return EvenGrid(placed, uneven.find_owners(heights), step)


def lay_evenly(labels: LabelMap, sequence: ImageSequence) -> tuple[LabelMap, ImageSequence]:
    """Return the labels of uneven slices on an even grid.

    Args:
        labels: (frames, height, width), on the grid of the source.
        sequence: The source.

    Returns:
        The labels, and a sequence with their geometry; unchanged where slices are even.
    """
    grid = find_even_grid(sequence)
    if grid is None:
        return labels, sequence
    even = replace(
        sequence,
        shape=(len(grid.owners), *sequence.shape[1:]),
        geometry=grid.geometry,
        slice_spacing_mm=grid.step_mm,
        unknown=(),
        uneven=None,
    )
    array: np.ndarray = labels.array[grid.owners]
    return replace(labels, array=array), even
