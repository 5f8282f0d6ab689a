"""Weighs features of masks by their Dice, on validation units and with the help of others."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bedside.pipeline.confidence import score_features
from bedside.spec.confidence import StructureModel

_RIDGE = 0.1
_LIMIT = 3.0
_FULL = 1.02
_LEAST_SCALE = 1e-3


@dataclass(frozen=True)
class Described:
    """One structure in a number of images.

    Attributes:
        features: (N, features).
        dice: (N,).
        weights: (N,), how much each image counts.
    """

    features: np.ndarray
    dice: np.ndarray
    weights: np.ndarray

    @property
    def target(self) -> np.ndarray:
        """What is fitted: the logarithm of what is missing of the Dice, turned, (N,)."""
        return np.asarray(-np.log(_FULL - self.dice))

    def pick(self, chosen: np.ndarray | slice) -> "Described":
        """Some of the images."""
        return Described(self.features[chosen], self.dice[chosen], self.weights[chosen])

    def measure_error(self, scores: np.ndarray) -> float:
        """Variance of what scores leave of the target."""
        rest = self.target - scores
        rest -= np.average(rest, weights=self.weights)
        return float(np.average(rest**2, weights=self.weights))


@dataclass(frozen=True)
class Weighing:
    """A way to weigh features.

    Attributes:
        structure: Name of the structure.
        names: Of the features.
        own: Images of validation units.
        others: Images of training units, whose features and Dice are moved to the means of the
            validation units: a network is surer, and better, on images that it was fitted to,
            but surer images are better in much the same way. None for no such images.
        squared: Whether squares of features have weights too.
    """

    structure: str
    names: tuple[str, ...]
    own: Described
    others: Described | None
    squared: bool

    def hold_out(self, folds: np.ndarray) -> np.ndarray:
        """Scores of all validation images, each by weights not fitted to its unit, (N,)."""
        scores = np.zeros(len(self.own.dice))
        for fold in np.unique(folds):
            out = folds == fold
            scores[out] = score_features(self.fit(~out), self.own.features[out])
        return scores

    def fit(self, chosen: np.ndarray | slice = slice(None)) -> StructureModel:
        """Ridge regression of the target on features, and their squares; without a table.

        Args:
            chosen: Validation images that are fitted to.
        """
        features, target, weights = self._join(self.own.pick(chosen))
        centre = np.average(features, axis=0, weights=weights)
        spread = np.average((features - centre) ** 2, axis=0, weights=weights)
        scale = np.sqrt(spread) + _LEAST_SCALE
        columns = np.clip((features - centre) / scale, -_LIMIT, _LIMIT)
        if self.squared:
            columns = np.concatenate([columns, columns**2], axis=1)
        columns -= np.average(columns, axis=0, weights=weights)
        target = target - np.average(target, weights=weights)
        weighted = columns * weights[:, None]
        normal = weighted.T @ columns + _RIDGE * weights.sum() * np.eye(columns.shape[1])
        found = np.linalg.solve(normal, weighted.T @ target)
        size = features.shape[1]
        squares = found[size:] if self.squared else np.zeros(size)
        return StructureModel(
            self.structure, self.names, _round(centre), _round(scale), _round(found[:size]),
            _round(squares), (0.0,), (0.0,), None, 0.0,
        )  # fmt: skip

    def _join(self, own: Described) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Features, targets and weights of all images that are fitted to."""
        if self.others is None:
            return own.features, own.target, own.weights
        moved = [
            values - np.average(values, axis=0, weights=self.others.weights)
            + np.average(at, axis=0, weights=own.weights)
            for values, at in (
                (self.others.features, own.features), (self.others.target, own.target),
            )
        ]  # fmt: skip
        joined = zip((own.features, own.target), moved, strict=True)
        features, target = (np.concatenate(pair) for pair in joined)
        return features, target, np.concatenate([own.weights, self.others.weights])


def choose_weights(
    ways: Sequence[Weighing], folds: np.ndarray
) -> tuple[StructureModel, np.ndarray]:
    """Weigh in the way that has the least error on units that it was not fitted to.

    Args:
        ways: Of the same validation images.
        folds: (N,) part of each image; a unit is in one.

    Returns:
        Weights fitted to all images, and scores of each by weights that its fold did not see.
    """
    held_out = [way.hold_out(folds) for way in ways]
    errors = [way.own.measure_error(found) for way, found in zip(ways, held_out, strict=True)]
    best = errors.index(min(errors))
    return ways[best].fit(), held_out[best]


def _round(values: np.ndarray) -> tuple[float, ...]:
    return tuple(float(f"{value:.6g}") for value in values)
