"""Means over cases, with confidence intervals over patients, not images."""

import functools
from collections.abc import Sequence

import numpy as np

from bedside.spec.card import MIN_UNITS, Interval


def mean_interval(
    values: Sequence[float | None],
    units: Sequence[str],
    *,
    seed: int = 0,
    resamples: int = 4000,
) -> Interval:
    """Average over cases, with a 95 % percentile interval by a bootstrap over units.

    Units, such as patients, are drawn with replacement, each with all its cases: counted as
    independent, several cases of one patient would make the interval too narrow.

    Args:
        values: One value a case. None, NaN and infinity are left out.
        units: The patient of each case, or what else is independent.
        seed: Seed of the draws; the same seed gives the same interval.
        resamples: Number of draws.

    Returns:
        Mean over the cases with a value, and the 2.5th and 97.5th percentile of the means of
        the draws. The ends are None if fewer than `MIN_UNITS` units have a value, and the mean
        too with none.

    Source:
        Field and Welsh 2007, Bootstrapping clustered data, doi:10.1111/j.1467-9868.2007.00593.x.

    Example:
        >>> mean_interval([0.5, 0.7, float("nan")], ["a", "a", "b"])
        Interval(mean=0.6, low=None, high=None)
    """
    numbers = np.array([np.nan if value is None else value for value in values], dtype=float)
    known = np.isfinite(numbers)
    if not known.any():
        return Interval(None, None, None)
    _, owner = np.unique(np.asarray(units)[known], return_inverse=True)
    sums = np.bincount(owner, weights=numbers[known])
    counts = np.bincount(owner).astype(float)
    mean = float(sums.sum() / counts.sum())
    size = len(sums)
    if size < MIN_UNITS:
        return Interval(mean, None, None)
    draws = _draws(size, seed=seed, resamples=resamples)
    means = (draws @ sums) / (draws @ counts)
    low, high = np.percentile(means, (2.5, 97.5))
    return Interval(mean, float(low), float(high))


@functools.lru_cache(maxsize=2)
def _draws(size: int, *, seed: int, resamples: int) -> np.ndarray:
    """Count how often each unit is drawn, one row a resample; all metrics share them."""
    generator = np.random.default_rng(seed)
    counts = generator.multinomial(size, np.full(size, 1 / size), size=resamples).astype(float)
    counts.flags.writeable = False
    return counts
