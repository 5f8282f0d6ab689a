"""How sure a mask is, structure by structure, from one pass of the network.

A frame is described by sums over its pixels, so that the slices of a scan are described by the
sum of their sums. Features are ratios of them; a model of the bundle, calibrated on validation
units, turns features into a predicted Dice with an interval.
"""

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from bedside.pipeline.coarse import Coarse, coarsen
from bedside.pipeline.logits import draw_masks
from bedside.spec.confidence import Confidence, Confidences, StructureConfidence, StructureModel

STATISTICS = (
    "drawn", "expected", "agreed", "doubt", "inner_doubt", "band", "border", "brightness",
    "gradient", "dark_border", "pixels", "unsure", "light", "light_squared",
)  # fmt: skip
"""Sums over the pixels of a frame, for each structure; the last four are of the whole frame."""

IMAGE_FEATURES = ("inner_light", "border_gradient", "dark_border")
"""Features that need the image, not only the logits."""

# Of p (1 - p), where p is 0.1 to 0.9.
_BAND = 0.09
_CLIP = 3.0
_DARK = 0.04


def describe_frame(tensor: np.ndarray | None, logits: np.ndarray) -> np.ndarray:
    """Sums over the pixels of one frame, on a grid of at most 64 pixels a side.

    Args:
        tensor: (C, H, W) as the network takes it; None for the slice of a 3D network.
        logits: (K, h, w) as it gives them.

    Returns:
        (K - 1, `STATISTICS`) float64.
    """
    return describe_coarse(coarsen(tensor, logits))


def describe_coarse(coarse: Coarse) -> np.ndarray:
    """Sums over the pixels of one frame that is on the coarse grid.

    Returns:
        (K - 1, `STATISTICS`) float64.
    """
    chances, surest, image = coarse.chances, coarse.surest, coarse.image
    masks = draw_masks(chances, surest)
    count, pixels = len(masks) - 1, surest.size
    drawn = masks[1:].reshape(count, -1).astype(np.float32)
    doubts = coarse.doubts[1:].reshape(count, -1)
    edges = find_edges(masks)
    light = light_squared = 0.0
    brightness = gradient = dark = [0.0] * count
    # A product for each pair of planes: a product of matrices takes three times as long.
    agreed = np.vecdot(drawn, chances[1:].reshape(count, -1)).tolist()
    inner_doubt = np.vecdot(drawn, doubts).tolist()
    if image is not None:
        middle = len(image) // 2
        place = len(coarse.planes) - len(image) + middle
        light, light_squared = coarse.sums[place], coarse.light_squared[middle]
        brightness = np.vecdot(drawn, image[middle].ravel()).tolist()
        weights = _compare_neighbours(coarse.planes, place)
        gradient, dark = np.vecdot(edges[:, None].astype(np.float32), weights).T.tolist()
    classes, unsure = count + 1, pixels - coarse.sums[2 * count + 2]
    expected, doubt = coarse.sums[1:classes], coarse.sums[classes + 1 : 2 * classes]
    columns = (
        _count(masks[1:]), expected, agreed, doubt, inner_doubt, _count(doubts >= _BAND),
        _count(edges), brightness, gradient, dark,
        *([each] * count for each in (pixels, unsure, light, light_squared)),
    )  # fmt: skip
    return np.array(columns, np.float64).T


def find_edges(masks: np.ndarray) -> np.ndarray:
    """Where a mask ends between a pixel and the one to its left, and the one above.

    Args:
        masks: (K, h, w) bool, contiguous.

    Returns:
        (K - 1, 2 h w) bool, of all but the first; False where there is no such neighbour.
    """
    count, height, width = masks.shape
    ends = masks[1:].reshape(count - 1, 1, -1) != _list_neighbours(masks, 1)
    ends &= _find_inside(height, width)
    return np.asarray(ends.reshape(count - 1, -1))


def _compare_neighbours(planes: np.ndarray, index: int) -> np.ndarray:
    """How far a pixel differs from the one to its left, and the one above; and if both are dark.

    Args:
        planes: (N, h, w) float32, contiguous.
        index: Which plane; not the first.

    Returns:
        (2, 2 h w) float32, any numbers where there is no such neighbour.
    """
    grey, neighbours = planes[index].ravel(), _list_neighbours(planes, index)[0]
    found = np.empty((2, *neighbours.shape), np.float32)
    np.subtract(grey, neighbours, out=found[0])
    np.abs(found[0], out=found[0])
    np.maximum(grey, neighbours, out=found[1])
    np.less(found[1], _DARK, out=found[1])
    return found.reshape(2, -1)


def _list_neighbours(planes: np.ndarray, first: int) -> np.ndarray:
    """Of each pixel the one to its left, and the one above, without a copy.

    Pixels of the first column and row have pixels of the row or plane before instead.

    Args:
        planes: (N, h, w), contiguous.
        first: Plane to begin with, at least 1.

    Returns:
        (N - first, 2, h w).
    """
    _, height, width = planes.shape
    pixels, item = height * width, planes.itemsize
    return np.ndarray(
        (len(planes) - first, 2, pixels), planes.dtype, planes,
        (first * pixels - 1) * item, (pixels * item, (1 - width) * item, item),
    )  # fmt: skip


@lru_cache(maxsize=16)
def _find_inside(height: int, width: int) -> np.ndarray:
    """Whether a pixel has one to its left, and one above, (2, height width) bool."""
    inside = np.ones((2, height, width), np.bool_)
    inside[0, :, 0] = inside[1, 0] = False
    inside.setflags(write=False)
    return inside.reshape(2, -1)


def _count(masks: np.ndarray) -> list[int]:
    return [int(np.count_nonzero(mask)) for mask in masks]


def describe_slabs(
    slabs: Iterable[np.ndarray], described: list[np.ndarray]
) -> Iterator[np.ndarray]:
    """Pass slabs of logits on, (K, n, h, w), and append the sums of each of their slices."""
    for slab in slabs:
        described += [describe_frame(None, slab[:, index]) for index in range(slab.shape[1])]
        yield slab


FEATURES = (
    "lost", "band", "border_doubt", "inner_doubt", "most_lost", "unsure", "size", "share",
    "inner_light", "border_gradient", "dark_border",
)  # fmt: skip
"""Ratios of sums, of each structure."""

_LOST, _MOST_LOST = FEATURES.index("lost"), FEATURES.index("most_lost")
_Term = tuple[int, float, float, float, float]
"""Place of a feature in `FEATURES`, its centre and scale, its weight and that of its square."""


def make_features(sums: np.ndarray) -> dict[str, np.ndarray]:
    """Features of each structure, by name, from sums.

    Args:
        sums: (..., K - 1, `STATISTICS`) of a frame, or of all slices of a scan together.

    Returns:
        (..., K - 1) each.
    """
    all_drawn = sums[..., 0].sum(axis=-1, keepdims=True)
    found = dict(zip(FEATURES, _divide(np.moveaxis(sums, -1, 0), all_drawn, np), strict=True))
    lost = found["lost"]
    return found | {"most_lost": np.broadcast_to(lost.max(axis=-1, keepdims=True), lost.shape)}


def _list_features(rows: list[list[float]]) -> list[list[float]]:
    """Features of each structure of one frame; numpy takes five times as long for so few."""
    all_drawn = sum(row[0] for row in rows)
    found = [list(_divide(row, all_drawn, _Scalars)) for row in rows]
    most = max((each[_LOST] for each in found), default=0.0)
    for each in found:
        each[_MOST_LOST] = most
    return found


class _Scalars:
    """Functions of numbers, by their names in numpy."""

    log, sqrt, maximum = math.log, math.sqrt, max


def _divide(sums: Any, all_drawn: Any, of: Any) -> tuple[Any, ...]:
    """Features but `most_lost`, from arrays or from numbers.

    Args:
        sums: Of each of `STATISTICS`.
        all_drawn: Pixels of all structures together.
        of: Where log, sqrt and maximum are found: numpy for arrays.
    """
    (
        drawn, expected, agreed, doubt, inner_doubt, band, border, brightness, gradient,
        dark_border, pixels, unsure, light, light_squared,
    ) = sums  # fmt: skip
    both = of.maximum(drawn + expected, 1.0)
    drawn, border = of.maximum(drawn, 1.0), of.maximum(border, 1.0)
    mean = light / pixels
    spread = of.sqrt(of.maximum(light_squared / pixels - mean * mean, 1e-6))
    return (
        of.log(1.01 - 2 * agreed / both),
        of.log((band + 1) / drawn),
        doubt / border,
        inner_doubt / drawn,
        0.0,
        of.log(unsure / pixels + 1e-4),
        of.log(drawn / pixels),
        of.log(drawn / of.maximum(all_drawn, 1.0)),
        brightness / drawn / spread,
        gradient / border / spread,
        dark_border / border,
    )


def score_features(model: StructureModel, features: np.ndarray) -> np.ndarray:
    """Weighted sum of features, (N, features), that rises with the Dice, (N,)."""
    scaled = np.clip((features - np.array(model.centre)) / np.array(model.scale), -_CLIP, _CLIP)
    return np.asarray(scaled @ np.array(model.weights) + scaled**2 @ np.array(model.squares))


def _list_terms(model: StructureModel) -> list[_Term]:
    """Terms of a model's sum, one for each of its features."""
    places = map(FEATURES.index, model.features)
    columns = model.centre, model.scale, model.weights, model.squares
    return list(zip(places, *columns, strict=True))


class ConfidenceEstimator:
    """A bundle's calibration, ready for any number of images and threads.

    Args:
        confidence: The calibration.
        structures: Names of all structures of the bundle, in the order of its labels.
    """

    def __init__(self, confidence: Confidence, structures: Sequence[str]) -> None:
        self.confidence = confidence
        places = {name: index for index, name in enumerate(structures)}
        self._frames, self._scans = (
            [(places[model.structure], model, _list_terms(model)) for model in models]
            for models in (confidence.frames, confidence.scans)
        )

    def find_model(self, structure: str, *, scan: bool = False) -> StructureModel | None:
        """Return the model of a structure; None without one."""
        models = self._scans if scan else self._frames
        return next((model for _, model, _ in models if model.structure == structure), None)

    def assess(self, sums: np.ndarray, *, scan: bool = False) -> Confidences:
        """Predict the Dice of each structure.

        Args:
            sums: (K - 1, `STATISTICS`).
            scan: Whether they are those of all slices of a scan together.

        Returns:
            By name, of the structures that are drawn.
        """
        models = self._scans if scan else self._frames
        if not models:
            return {}
        rows = sums.tolist()
        features = _list_features(rows)
        return {
            model.structure: _predict(model, terms, features[place])
            for place, model, terms in models
            if rows[place][0]
        }


def _predict(
    model: StructureModel, terms: Sequence[_Term], features: Sequence[float]
) -> StructureConfidence:
    """Predict the Dice of one structure, as `score_features` and its table do."""
    score = 0.0
    for place, centre, scale, weight, square in terms:
        scaled = (features[place] - centre) / scale
        if scaled > _CLIP:
            scaled = _CLIP
        elif scaled < -_CLIP:
            scaled = -_CLIP
        score += scaled * (weight + square * scaled)
    dice = _look_up(score, model.scores, model.dice)
    low, high = model.bound_dice(dice)
    return StructureConfidence(
        round(dice, 4), round(low, 4), round(high, 4), trusted=dice >= model.least_dice
    )


def _look_up(score: float, scores: Sequence[float], dice: Sequence[float]) -> float:
    """Dice at a score, linear between knots and constant beyond them, as `numpy.interp`."""
    above = bisect_right(scores, score)
    if above in (0, len(scores)):
        return dice[min(above, len(scores) - 1)]
    share = (score - scores[above - 1]) / (scores[above] - scores[above - 1])
    return dice[above - 1] + share * (dice[above] - dice[above - 1])


def find_median(frames: Sequence[Confidences]) -> Confidences:
    """Return for each structure the frame that is the median by its predicted Dice."""
    found: dict[str, list[StructureConfidence]] = {}
    for frame in frames:
        for name, each in frame.items():
            found.setdefault(name, []).append(each)
    return {
        name: sorted(each, key=lambda one: one.predicted_dice)[(len(each) - 1) // 2]
        for name, each in found.items()
    }


def distrust(confidence: Confidences) -> Confidences:
    """The same, nothing of it to be trusted: of an image that the network was not made for."""
    return {name: replace(found, trusted=False) for name, found in confidence.items()}


def name_untrusted(confidence: Confidences) -> list[str]:
    """Warnings of structures that are not to be trusted."""
    return [
        f"{name}: the network is less sure of its mask than of nine in ten validation images; "
        "do not trust this structure."
        for name, found in confidence.items()
        if not found.trusted
    ]
