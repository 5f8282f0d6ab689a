"""Patches of scans larger than the network's input, balanced over structures."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from bedside.training.example import Example

Shape = tuple[int, ...]

_MOST_PLACES = 4096
"""Largest number of voxels of a structure that are stored."""
_MARGIN = 0.15
"""Margin on each side, as a fraction of the patch: rotation and scaling need its tissue."""


@dataclass(frozen=True)
class PatchSampler:
    """Draws patches of one size from examples.

    Attributes:
        examples: The examples to draw from.
        size: Size of a patch, in array order.
        foreground: Fraction of the patches that are centred on a voxel of a structure, drawn
            with equal chance among those present; the others lie anywhere.
    """

    examples: Sequence[Example] = field(repr=False)
    size: Shape
    foreground: float = 0.5
    _places: dict[int, list[np.ndarray]] = field(default_factory=dict, init=False, repr=False)

    def draw(self, index: int, rng: np.random.Generator) -> Example:
        """Draw a patch with a margin, to be augmented and then cropped.

        An example of the patch's size is returned unchanged. Beyond the scan, patch and margin
        are 0.

        Args:
            index: Index of the example.
            rng: Source of the random numbers.
        """
        example = self.examples[index]
        shape = example.truth.shape
        if shape == self.size:
            return example
        middle = self._draw_middle(index, shape, rng)
        lows, highs = [], []
        for place, size, side in zip(middle, shape, self.size, strict=True):
            low = min(max(place - side // 2, 0), size - side) if size > side else (size - side) // 2
            margin = round(_MARGIN * side)
            lows.append(low - margin)
            highs.append(low + side + margin)
        return Example(cut(example.image, lows, highs), cut(example.truth, lows, highs))

    def _draw_middle(self, index: int, shape: Shape, rng: np.random.Generator) -> Shape:
        """Draw the centre of a patch."""
        wants_structure = rng.random() < self.foreground
        places = self._find_places(index) if wants_structure else []
        if places:
            chosen = places[rng.integers(len(places))]
            flat = int(chosen[rng.integers(len(chosen))])
            return tuple(int(place) for place in np.unravel_index(flat, shape))
        corners = [
            int(rng.integers(max(size - side, 0) + 1))
            for size, side in zip(shape, self.size, strict=True)
        ]
        return tuple(low + side // 2 for low, side in zip(corners, self.size, strict=True))

    def _find_places(self, index: int) -> list[np.ndarray]:
        """Some voxels of each structure of an example."""
        if index not in self._places:
            truth = np.asarray(self.examples[index].truth).ravel()
            present = np.flatnonzero(np.bincount(truth))
            found = (np.flatnonzero(truth == value) for value in present if value)
            self._places[index] = [
                places[np.linspace(0, len(places) - 1, min(len(places), _MOST_PLACES)).astype(int)]
                for places in found
            ]
        return self._places[index]


def cut(array: np.ndarray, lows: Sequence[int], highs: Sequence[int]) -> np.ndarray:
    """Crop a box of the last axes, zero-padded beyond the array.

    Example:
        >>> cut(np.array([[1, 2, 3]]), [-1], [2])
        array([[0, 1, 2]])
    """
    first = array.ndim - len(lows)
    shape = array.shape[first:]
    inside = [slice(None)] * first + [
        slice(max(low, 0), max(min(high, size), 0))
        for low, high, size in zip(lows, highs, shape, strict=True)
    ]
    pads = [(0, 0)] * first + [
        (max(-low, 0), max(high - size, 0))
        for low, high, size in zip(lows, highs, shape, strict=True)
    ]
    part = np.asarray(array[tuple(inside)])
    return np.pad(part, pads) if any(map(any, pads)) else part


def cut_middle(array: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """Crop the centre of the last axes."""
    lows = [
        (have - want) // 2
        for have, want in zip(array.shape[array.ndim - len(size) :], size, strict=True)
    ]
    return cut(array, lows, [low + want for low, want in zip(lows, size, strict=True)])
