"""How sure a mask is, structure by structure, from one pass of the network.

A frame is described by sums over its pixels, so that the slices of a scan are described by the
sum of their sums. Features are ratios of them; a model of the bundle, calibrated on validation
units, turns features into a predicted Dice with an interval.
"""

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bedside.pipeline.coarse import Coarse, coarsen
from bedside.spec.confidence import Confidence, Confidences, StructureConfidence, StructureModel

STATISTICS = (
    "drawn", "expected", "agreed", "doubt", "inner_doubt", "band", "border", "brightness",
    "gradient", "dark_border", "pixels", "unsure", "light", "light_squared",
)  # fmt: skip
"""Sums over the pixels of a frame, for each structure; the last four are of the whole frame."""

IMAGE_FEATURES = ("inner_light", "border_gradient", "dark_border")
"""Features that need the image, not only the logits."""

_DARK = 0.04
# Of p (1 - p), where p is 0.1 to 0.9.
_BAND = 0.09
_CLIP = 3.0


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
    chances, surest = coarse.chances, coarse.surest
    labels = _draw_labels(chances, surest)
    count, pixels = len(chances) - 1, labels.size
    likely, doubt, grey = slice(count), slice(count, 2 * count), 2 * count
    planes = np.empty((2 * count + 1, pixels), np.float32)
    planes[likely] = chances[1:].reshape(count, -1)
    np.subtract(1, planes[likely], out=planes[doubt])
    planes[doubt] *= planes[likely]
    planes[grey] = 0 if coarse.image is None else coarse.image[len(coarse.image) // 2].ravel()
    values = np.arange(1, count + 1, dtype=np.uint8)
    drawn = (labels.ravel() == values[:, None]).astype(np.float32)
    totals, within = np.add.reduce(planes, axis=1), drawn @ planes.T
    border, gradient, dark = _measure_border(labels, planes[grey], count)
    found = (
        np.add.reduce(drawn, axis=1), totals[likely], within[:, likely].diagonal(),
        totals[doubt], within[:, doubt].diagonal(),
        [np.count_nonzero(each) for each in planes[doubt] >= _BAND],
        border, within[:, grey], gradient, dark,
        pixels, pixels - np.add.reduce(surest, axis=None), totals[grey],
        np.vdot(planes[grey], planes[grey]),
    )  # fmt: skip
    sums = np.empty((count, len(STATISTICS)))
    for column, values_of in enumerate(found):
        sums[:, column] = values_of
    return sums


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


def _list_features(sums: np.ndarray) -> list[list[float]]:
    """Features of each structure of one frame; numpy takes five times as long for so few."""
    rows = sums.tolist()
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
        features = _list_features(sums)
        return {
            model.structure: _predict(model, terms, features[place])
            for place, model, terms in models
            if sums[place, 0]
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


def _draw_labels(chances: np.ndarray, surest: np.ndarray) -> np.ndarray:
    """Class of the largest probability, (h, w) uint8; the first of equals."""
    if len(chances) == 2:
        return np.asarray(chances[1] > chances[0], np.uint8)
    labels = np.zeros(surest.shape, np.uint8)
    for value in range(len(chances) - 1, -1, -1):
        np.copyto(labels, np.uint8(value), where=chances[value] == surest)
    return labels


def _measure_border(labels: np.ndarray, light: np.ndarray, structures: int) -> Iterable[np.ndarray]:
    """Edges between pixels within and outside each mask: number, contrast, and dark ones.

    Pixels of two classes are an edge of both; pixels of one class, which are most, of none.
    """
    flat = labels.ravel()
    width = labels.shape[1]
    below = np.flatnonzero(flat[width:] != flat[:-width])
    # The last pixel of a row and the first of the next one are no neighbours.
    right = np.flatnonzero(flat[1:] != flat[:-1])
    right = right[(right + 1) % width != 0]
    here, there = np.concatenate([below, right]), np.concatenate([below + width, right + 1])
    one, other = light[here], light[there]
    contrast, both = np.abs(one - other), np.maximum(one, other) < _DARK
    if structures == 1:
        sums = len(here), np.add.reduce(contrast, dtype=np.float64), np.count_nonzero(both)
        return np.array(sums, np.float64)[:, None]
    seen = np.concatenate([flat[here], flat[there]])
    count, gradient, dark = (
        np.bincount(seen, weights, structures + 1)[1:]
        for weights in (None, np.concatenate([contrast, contrast]), np.concatenate([both, both]))
    )
    return count, gradient, dark
