"""Images that stand in a data set under two patients, found by their content.

A data set can hold one image twice under different names, and then a split by patient puts it into
training and test. Every case becomes a descriptor of a few thumbnails, with mean and contrast
removed, so that copies that were scaled, recompressed or brightened are found as well, and those
that were mirrored, turned by half or saved with their slices in the other order.
"""

import itertools
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np

from bedside.datasets.case import Case, open_image
from bedside.errors import InputError

SIMILARITY = 0.99
"""Correlation of thumbnails from which on two images are the same one, or neighbours in one film.

In CAMUS, ACDC, HC18, LIDC, BTCV and the hippocampus no two other images of different patients reach
0.98, mirrored or not.
"""

_SIDE = 32
_FRAMES = 8
_BLOCK = 512
# Below this standard deviation, as a part of the range, a thumbnail shows nothing.
_FLAT = 1e-3
_ROUNDING = 1e-5


@dataclass(frozen=True)
class SharedImage:
    """Two cases of different patients with the same image.

    Attributes:
        first: One of them.
        second: The other.
        similarity: Correlation of their thumbnails, up to 1.
        mirrored: Whether one is a mirror image of the other, along any axes.
    """

    first: Case
    second: Case
    similarity: float
    mirrored: bool = False

    def describe(self) -> str:
        """Return it in words."""
        alike = "the same image" if self.similarity > 1 - _ROUNDING else "nearly the same image"
        turned = ", mirrored" if self.mirrored else ""
        return f"{self.first.case_id} and {self.second.case_id} are {alike}{turned}"


def find_shared_images(
    cases: Sequence[Case],
    *,
    similarity: float = SIMILARITY,
    on_case: Callable[[int], None] | None = None,
) -> list[SharedImage]:
    """Find images that two patients of a data set share.

    Stills are compared with stills, and films or scans with those, by eight frames spread over
    each. Images that show nothing, or that cannot be read, are left out. Memory is 32 kB a scan
    and 4 kB a still.

    Args:
        cases: Cases of a data set, in any order.
        similarity: Correlation from which on two images are the same one.
        on_case: Called with the number of images read.

    Returns:
        Pairs of cases of different patients, in the order of `cases`.
    """
    descriptors = []
    with ThreadPoolExecutor(max_workers=4) as pool:
        for count, descriptor in enumerate(pool.map(_describe_readable, cases), 1):
            descriptors.append(descriptor)
            if on_case:
                on_case(count)
    known = {index: each for index, each in enumerate(descriptors) if each is not None}
    by_length = defaultdict(list)
    for index, descriptor in known.items():
        by_length[len(descriptor)].append(index)
    pairs = [
        (indices[first], indices[second], value, mirrored)
        for indices in by_length.values()
        for first, second, value, mirrored in _find_similar(
            np.stack([known[index] for index in indices]), similarity
        )
    ]
    return [
        SharedImage(cases[first], cases[second], value, mirrored)
        for first, second, value, mirrored in sorted(pairs)
        if cases[first].patient_id != cases[second].patient_id
    ]


def leave_out_leaks(
    cases: Sequence[Case], split: Mapping[str, Sequence[str]]
) -> tuple[list[Case], tuple[str, ...]]:
    """Leave out cases whose image is, under another patient, in an earlier part of a split.

    Args:
        cases: All cases of a data set.
        split: Patients of "train", "val" and "test", in that order.

    Returns:
        The cases without test images that are in training or validation, and validation images
        that are in training; and a sentence for each that was left out. No image is read for a
        single part.
    """
    if sum(bool(patients) for patients in split.values()) < 2:
        return list(cases), ()
    order = {name: rank for rank, name in enumerate(split)}
    home = {patient: part for part, patients in split.items() for patient in patients}
    reasons: dict[str, str] = {}
    for pair in find_shared_images([case for case in cases if case.patient_id in home]):
        two = sorted((pair.first, pair.second), key=lambda case: order[home[case.patient_id]])
        earlier, later = (home[case.patient_id] for case in two)
        if earlier != later:
            reasons[two[1].case_id] = (
                f"{two[1].case_id} is left out of {later}: {pair.describe()}, and "
                f"{two[0].case_id} is in {earlier}."
            )
    return [case for case in cases if case.case_id not in reasons], tuple(reasons.values())


def describe_image(case: Case) -> np.ndarray | None:
    """Return a descriptor of an image, of which equal images have a product of 1.

    Returns:
        (1024,) float32 for a still and (8192,) for several frames, of length 1; None if the
        image shows nothing.

    Raises:
        InputError: If the image cannot be read.
    """
    sequence = open_image(case).sequence
    count = len(sequence)
    chosen = [0] if count == 1 else np.rint(np.linspace(0, count - 1, _FRAMES)).astype(int).tolist()
    thumbnails = np.concatenate([_make_thumbnail(sequence.decode(index)) for index in chosen])
    length = float(np.linalg.norm(thumbnails))
    return thumbnails / length if length else None


def _describe_readable(case: Case) -> np.ndarray | None:
    """Descriptor of an image; None where it cannot be read, which its own reader will say."""
    try:
        return describe_image(case)
    except InputError:
        return None


def _make_thumbnail(frame: np.ndarray) -> np.ndarray:
    """Return a small grey image without mean and contrast, flat; zeros of a constant one."""
    grey = frame.astype(np.float32).mean(axis=0)
    small = cv2.resize(grey, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).ravel()
    small -= small.mean()
    length = float(np.linalg.norm(small))
    if not np.isfinite(length) or length <= _FLAT * _SIDE * float(np.ptp(grey)):
        return np.zeros_like(small)
    return np.asarray(small / length)


def _find_similar(descriptors: np.ndarray, similarity: float) -> list[tuple[int, int, float, bool]]:
    """List the pairs of rows whose product is at least `similarity`, each once.

    Returns:
        The rows, the product, and whether one is mirrored for it.
    """
    pairs: dict[tuple[int, int], tuple[float, bool]] = {}
    for axes in _list_mirrors(descriptors):
        turned = _mirror(descriptors, axes)
        for begin in range(0, len(descriptors), _BLOCK):
            products = descriptors[begin : begin + _BLOCK] @ turned.T
            for row, column in np.argwhere(products >= similarity).tolist():
                pair, value = (begin + row, column), float(products[row, column])
                if pair[0] < column and value > pairs.get(pair, (0.0, False))[0]:
                    pairs[pair] = value, bool(axes)
    return [(first, second, *found) for (first, second), found in pairs.items()]


def _list_mirrors(descriptors: np.ndarray) -> list[tuple[int, ...]]:
    """Axes of (frame, row, column) along which images are mirrored, none first."""
    axes = (1, 2) if descriptors.shape[1] == _SIDE**2 else (0, 1, 2)
    counts = range(len(axes) + 1)
    return [each for count in counts for each in itertools.combinations(axes, count)]


def _mirror(descriptors: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
    """The descriptors of mirrored images."""
    thumbnails = descriptors.reshape(len(descriptors), -1, _SIDE, _SIDE)
    turned = np.flip(thumbnails, tuple(axis + 1 for axis in axes))
    return np.ascontiguousarray(turned).reshape(descriptors.shape)
