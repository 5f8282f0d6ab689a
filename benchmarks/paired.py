"""Paired differences over folds with a training each: their intervals, and what they decide."""

import itertools
from collections.abc import Callable, Mapping

import numpy as np

from bedside.evaluation.intervals import mean_interval
from bedside.spec.card import MIN_UNITS, Interval

RESAMPLES = 4000
_FEWEST = 3

CaseKey = tuple[int, str]
"""Fold and name of a case."""


def subtract(one: Mapping[CaseKey, float], other: Mapping[CaseKey, float]) -> dict[CaseKey, float]:
    """Differences of the images that both have."""
    return {key: one[key] - other[key] for key in one if key in other}


def over_patients(values: Mapping[CaseKey, float], patient_of: Callable[[str], str]) -> Interval:
    """Mean over images, with an interval over patients.

    Args:
        values: Of each image.
        patient_of: From the name of an image to its patient.
    """
    return mean_interval(list(values.values()), [patient_of(case) for _, case in values])


def over_folds(
    values: Mapping[CaseKey, float], patient_of: Callable[[str], str], *, seed: int = 0
) -> Interval:
    """Mean over images, with a 95 % interval over trainings too.

    Folds, each with its own training and seed, are drawn with replacement, and within each drawn
    fold its patients, each with all its images. With few folds this is rough: it reaches about
    from the fold with the lowest mean to that with the highest. No ends with fewer than three
    folds or `MIN_UNITS` patients.

    Args:
        values: Of each image.
        patient_of: From the name of an image to its patient.
        seed: Seed of the draws.

    Example:
        >>> over_folds({(0, "a"): 0.5, (1, "b"): 0.75}, str)
        Interval(mean=0.625, low=None, high=None)
    """
    mean = float(np.mean(list(values.values())))
    folds = [
        _sum_patients(values, patient_of, fold) for fold in sorted({fold for fold, _ in values})
    ]
    if len(folds) < _FEWEST or sum(len(sums) for sums, _ in folds) < MIN_UNITS:
        return Interval(mean, None, None)
    generator = np.random.default_rng(seed)
    chosen = generator.integers(len(folds), size=(RESAMPLES, len(folds)))
    totals, numbers = np.zeros(RESAMPLES), np.zeros(RESAMPLES)
    for (fold, (sums, counts)), place in itertools.product(enumerate(folds), chosen.T):
        here = place == fold
        size = len(sums)
        draws = generator.multinomial(size, np.full(size, 1 / size), size=int(here.sum()))
        totals[here] += draws @ sums
        numbers[here] += draws @ counts
    means = totals / numbers
    low, high = np.percentile(means, (2.5, 97.5))
    return Interval(mean, float(low), float(high))


def _sum_patients(
    values: Mapping[CaseKey, float], patient_of: Callable[[str], str], fold: int
) -> tuple[np.ndarray, np.ndarray]:
    """Sum of the values of each patient of a fold, and their number."""
    known = [(patient_of(case), value) for (of, case), value in values.items() if of == fold]
    _, owner = np.unique([patient for patient, _ in known], return_inverse=True)
    return np.bincount(owner, weights=[value for _, value in known]), np.bincount(owner)


def judge(interval: Interval, *, margin: float) -> str:
    """What an interval of a difference decides.

    Args:
        interval: Of the paired difference.
        margin: Difference that counts, fixed beforehand.

    Example:
        >>> judge(Interval(0.005, 0.003, 0.007), margin=0.002)
        'better by more than the margin'
        >>> judge(Interval(0.0, -0.001, 0.002), margin=0.002)
        'equal within the margin'
        >>> judge(Interval(0.001, -0.001, 0.004), margin=0.002)
        'not worse by the margin'
        >>> judge(Interval(-0.001, -0.004, 0.001), margin=0.002)
        'not better by the margin'
    """
    low, high = interval.low, interval.high
    if low is None or high is None:
        return "not decided"
    ranked = (
        (low > margin, "better by more than the margin"),
        (high < -margin, "worse by more than the margin"),
        (-margin <= low and high <= margin, "equal within the margin"),
        (low > 0, "better, perhaps by less than the margin"),
        (high < 0, "worse, perhaps by less than the margin"),
        (high <= margin, "not better by the margin"),
        (low >= -margin, "not worse by the margin"),
    )
    return next((verdict for holds, verdict in ranked if holds), "not decided")
