"""Fits a confidence: features of masks against their Dice, on validation units.

Training units may help to weigh the features; predicted Dice, flags and intervals are of
validation units alone, whose masks no network was fitted to.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from bedside.evaluation.confidence_ridge import Described, Weighing, choose_weights
from bedside.pipeline.confidence import FEATURES, IMAGE_FEATURES, make_features
from bedside.spec.card import MIN_UNITS
from bedside.spec.confidence import StructureModel, Tails, expect_error, is_fraction

LEVEL = 0.9
"""Part of cases that an interval holds."""

CLEAN_WEIGHT = 3.0
"""Weight of an image as it is, against one with a planted artefact."""

FALSE_ALARMS = 0.1
"""Part of the clean images outside the worst tenth that are flagged."""

_FOLDS = 9
_KNOTS = 12
_WORST = 0.1
_FORM = 0.2
_TINY = 1e-6


@dataclass(frozen=True)
class Drawn:
    """One structure in one image, as it was drawn.

    Attributes:
        unit: Its patient, or another independent unit.
        clean: Whether no artefact was planted.
        sums: (K - 1, statistics) of the image, all structures.
        dice: Of the structure; 0 where the truth does not have it.
        measured: (predicted, true) of each measurement by name.
    """

    unit: str
    clean: bool
    sums: np.ndarray = field(repr=False)
    dice: float
    measured: dict[str, tuple[float, float]] = field(default_factory=dict, repr=False)


def fit_structure(
    structure: str,
    place: int,
    samples: Sequence[Drawn],
    *,
    with_image: bool,
    training: Sequence[Drawn] = (),
) -> StructureModel | None:
    """Fit the model of one structure; None if it is drawn in too few units.

    Features have squares if these lower the error on units that were not fitted to.

    Args:
        structure: Its name.
        place: Its row in `sums`.
        samples: Images of validation units in which it is drawn.
        with_image: Whether the features of the image are known.
        training: The same of training units, which help to weigh features.
    """
    units = sorted({sample.unit for sample in samples if sample.clean})
    if len(units) < MIN_UNITS:
        return None
    names = tuple(name for name in FEATURES if with_image or name not in IMAGE_FEATURES)
    own = _gather(names, place, samples)
    dice, weights = own.dice, own.weights
    clean = np.array([sample.clean for sample in samples])
    order = np.array([units.index(each.unit) if each.unit in units else 0 for each in samples])
    folds = order % min(_FOLDS, len(units))
    others = _gather(names, place, training) if training else None
    ways = [Weighing(structure, names, own, others, squared) for squared in (False, True)]
    model, scores = choose_weights(ways, folds)
    knots, levels = fit_table(scores, dice, weights)
    predicted = np.interp(scores, knots, levels)
    error = np.array([expect_error(each) for each in predicted])
    better = clean & (dice > np.quantile(dice[clean], _WORST))
    least_dice = round(float(np.quantile(predicted[better], FALSE_ALARMS)), 5)
    trusted, owners = predicted >= least_dice, Owners(order, clean)
    dice_tails = find_group_tails((dice - predicted) / error, owners, trusted)
    tails: dict[str, tuple[Tails | None, Tails | None]] = {}
    for name in sorted({name for sample in samples for name in sample.measured}):
        pairs = [sample.measured.get(name, (np.nan, np.nan)) for sample in samples]
        value, truth = np.array(pairs, float).T
        scale = error if is_fraction(name) else error * value
        with np.errstate(divide="ignore", invalid="ignore"):
            tails[name] = find_group_tails((truth - value) / scale, owners, trusted)
    return StructureModel(
        structure=structure,
        features=names,
        centre=model.centre,
        scale=model.scale,
        weights=model.weights,
        squares=model.squares,
        scores=tuple(round(float(score), 6) for score in knots),
        dice=tuple(round(float(level), 5) for level in levels),
        dice_tails=dice_tails[0],
        least_dice=least_dice,
        measurement_tails={name: found for name, (found, _) in tails.items() if found},
        doubted_dice_tails=dice_tails[1],
        doubted_measurement_tails={name: found for name, (_, found) in tails.items() if found},
    )


@dataclass(frozen=True)
class Owners:
    """Which units images are of.

    Attributes:
        order: (N,) number of the unit of each image.
        clean: (N,) whether no artefact was planted.
    """

    order: np.ndarray
    clean: np.ndarray

    def pick(self, chosen: np.ndarray) -> "Owners":
        """Those of some images."""
        return Owners(self.order[chosen], self.clean[chosen])


def find_group_tails(
    residuals: np.ndarray, owners: Owners, trusted: np.ndarray
) -> tuple[Tails | None, Tails | None]:
    """Ends for structures that are to be trusted, and for those that are not.

    A group of too few units has the ends of both together; None if these are too few as well.

    Args:
        residuals: (N,) truth minus estimate, as multiples of its expected error; NaN for none.
        owners: Of each.
        trusted: (N,) whether it is to be trusted.

    Source:
        Conformal prediction within categories, Vovk, Gammerman and Shafer 2005,
        doi:10.1007/b106715.
    """
    known = np.isfinite(residuals)
    both = find_tails(residuals[known], owners.pick(known))
    found = [
        find_tails(residuals[chosen], owners.pick(chosen))
        for chosen in (known & trusted, known & ~trusted)
    ]
    return found[0] or both, found[1] or both


def weigh_units(order: np.ndarray, clean: np.ndarray) -> np.ndarray:
    """Weights by which each unit counts the same, half for its clean images."""
    weights = np.zeros(len(order))
    for unit in np.unique(order):
        for chosen in (clean, ~clean):
            own = (order == unit) & chosen
            weights[own] = 1 / max(1, int(own.sum()))
    return weights


def find_tails(residuals: np.ndarray, owners: Owners, *, level: float = LEVEL) -> Tails | None:
    """Ends that hold the residuals of a further unit in the given part of cases.

    Their form is that of quantiles that lose a fifth on both sides, which few units know better
    than those at the ends. What they are multiplied by is a conformal quantile, of
    (units + 1) / units times the level.

    Args:
        residuals: (N,) truth minus estimate, as multiples of its expected error.
        owners: Of each.
        level: The part.

    Returns:
        None if so few units cannot hold it: below 9 of 90 %.

    Source:
        Split conformal prediction, Vovk, Gammerman and Shafer 2005, doi:10.1007/b106715; pooled
        over units as in Dunn, Wasserman and Ramdas 2022, doi:10.1080/01621459.2022.2060112.
    """
    units = len(np.unique(owners.order))
    if units < MIN_UNITS or level * (units + 1) > units + _TINY:
        return None
    mass = weigh_units(owners.order, owners.clean)
    low, middle, high = _find_quantiles(residuals, mass, (_FORM, 0.5, 1 - _FORM))
    down, up = max(middle - low, _TINY), max(high - middle, _TINY)
    scores = np.maximum((residuals - middle) / up, (middle - residuals) / down)
    order = np.argsort(scores)
    reached = np.cumsum(mass[order]) / mass.sum()
    place = int(np.searchsorted(reached, level * (units + 1) / units - _TINY))
    factor = float(scores[order][min(place, len(order) - 1)])
    return Tails(
        low=round(float(factor * down - middle), 5), high=round(float(middle + factor * up), 5)
    )


def _find_quantiles(
    values: np.ndarray, mass: np.ndarray, levels: tuple[float, ...]
) -> tuple[float, ...]:
    """Quantiles of weighted values."""
    order = np.argsort(values)
    ranks = (np.cumsum(mass[order]) - 0.5 * mass[order]) / mass.sum()
    return tuple(np.interp(levels, ranks, values[order]).tolist())


def fit_table(
    scores: np.ndarray, dice: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mean Dice of bins of equal weight by score, made to rise; scores rise strictly."""
    order = np.argsort(scores)
    ranks = np.cumsum(weights[order]) / weights.sum()
    bins = np.minimum((ranks * _KNOTS).astype(int), _KNOTS - 1)
    mass = np.bincount(bins, weights[order], _KNOTS)
    used = mass > 0
    means = [
        np.bincount(bins, weights[order] * values[order], _KNOTS)[used] / mass[used]
        for values in (scores, dice)
    ]
    knots, levels = means[0], _rise(means[1], mass[used])
    apart = np.concatenate([[True], np.diff(knots) > 1e-5])
    return knots[apart], np.clip(levels[apart], 0, 1)


def _rise(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Closest values that rise, by pooling those that fall (isotonic regression)."""
    pooled: list[tuple[float, float, int]] = []
    for value, weight in zip(values, weights, strict=True):
        block = (float(value), float(weight), 1)
        while pooled and pooled[-1][0] >= block[0]:
            before = pooled.pop()
            total = before[1] + block[1]
            mean = (before[0] * before[1] + block[0] * block[1]) / total
            block = (mean, total, before[2] + block[2])
        pooled.append(block)
    return np.concatenate([np.full(count, mean) for mean, _, count in pooled])


def _gather(names: tuple[str, ...], place: int, samples: Sequence[Drawn]) -> Described:
    """Features, Dice and weights of images."""
    made = make_features(np.stack([sample.sums for sample in samples]))
    return Described(
        features=np.stack([made[name][:, place] for name in names], axis=1),
        dice=np.array([sample.dice for sample in samples]),
        weights=np.array([CLEAN_WEIGHT if sample.clean else 1.0 for sample in samples]),
    )
