"""Bounds of a mean difference between patients, and how many patients they need."""

import math
from collections.abc import Sequence

import numpy as np
from scipy.special import betaincinv

from bedside.spec.card import MIN_UNITS

MIN_PATIENTS = MIN_UNITS
"""Patients below which nothing is compared."""

ERROR = 0.025
"""Probability at most of calling a candidate not worse that is: the level is 97.5 %."""

FAILURE = 0.05
"""Loss of Dice from which on a patient counts as one that the candidate fails on."""

WORST_LOSS = 0.25
"""Largest loss of a patient that `lower_bound` allows for, unless a larger one was seen."""

# Parts of the largest bet, and how much is put on each: the first does best where hardly anybody
# loses much, the others where some do.
_BETS = ((1.0, 0.8), (0.5, 0.1), (0.2, 0.05), (0.05, 0.05))
_TOLERANCE = 1e-7
_RESAMPLES = 10_000
_Z95 = 1.6449
"""95th percentile of the normal distribution."""
_Z975 = 1.96


def bootstrap_bound(differences: Sequence[float], *, seed: int = 0) -> float:
    """Bound the mean of differences from below, one-sided with 95 %, by a bootstrap.

    Patients are drawn with replacement; the bound is the 5th percentile of the means, its
    distance from the mean widened by sqrt(n / (n - 1)), because the spread of a sample is that
    much too small. Too high if a few of the patients that were not drawn lose much.

    Args:
        differences: One value a patient, at least two.
        seed: Seed of the draws.

    Example:
        >>> bootstrap_bound([0.01] * 10)
        0.01
        >>> values = [0.0, 0.02] * 50
        >>> abs(bootstrap_bound(values) - (0.01 - 1.645 * 0.01005 / 10)) < 2e-4
        True
    """
    values = np.asarray(differences, dtype=float)
    count = len(values)
    draws = np.random.default_rng(seed).multinomial(
        count, np.full(count, 1 / count), size=_RESAMPLES
    )
    mean = values.mean()
    low = np.percentile((draws @ (values - mean)) / count, 5)
    return float(mean + low * math.sqrt(count / (count - 1)))


def lower_bound(differences: Sequence[float]) -> float:
    """Bound the mean of differences from below, one-sided with 97.5 %, whatever their shape.

    The only assumption is that no patient loses more than `WORST_LOSS`, or than the worst one
    seen. Whoever bets on every patient that the difference is above a mean m, with a stake that
    cannot be lost twice, has no more on average than at the start if the mean is m or less; the
    bound is the largest m against which the stake has grown by 1 / `ERROR`. Order of the patients
    and their number do not matter, only that both were not chosen by the result.

    Args:
        differences: One value a patient.

    Source:
        Waudby-Smith and Ramdas 2024, Estimating means of bounded random variables by betting,
        doi:10.1093/jrsssb/qkad009, with a fixed mixture of bets.

    Example:
        >>> round(lower_bound([0.0] * 90), 4), round(lower_bound([0.0] * 300), 4)
        (-0.0106, -0.0032)
    """
    low, high = -_worst(differences), float(max(differences))
    while high - low > _TOLERANCE:
        middle = (low + high) / 2
        low, high = (middle, high) if excludes(differences, -middle) else (low, middle)
    return low


def excludes(differences: Sequence[float], loss: float) -> bool:
    """Whether a mean loss is excluded with 97.5 %, by the bets of `lower_bound`.

    Args:
        differences: One value a patient.
        loss: A loss of Dice, below the largest one of a patient.
    """
    gains = (np.asarray(differences, dtype=float) + loss) / (_worst(differences) - loss)
    with np.errstate(divide="ignore"):
        logs = [math.log(part) + np.log1p(bet * gains).sum() for bet, part in _BETS]
    return bool(np.logaddexp.reduce(logs) >= -math.log(ERROR))


def _worst(differences: Sequence[float]) -> float:
    """Largest loss of a patient that is allowed for."""
    return max(WORST_LOSS, float(-min(differences)))


def bound_share(count: int, of: int) -> float:
    """Bound a share from above, one-sided with 97.5 %.

    Args:
        count: How many were seen.
        of: Out of how many.

    Source:
        Clopper and Pearson 1934, doi:10.1093/biomet/26.4.404.

    Example:
        >>> round(bound_share(0, 90), 4), round(bound_share(3, 90), 4), bound_share(9, 9)
        (0.0402, 0.0943, 1.0)
    """
    return 1.0 if count == of else float(betaincinv(count + 1, of - count, 1 - ERROR))


def smallest_drop(patients: int) -> float:
    """Smallest loss that a number of patients can exclude at all: all of them without any loss.

    Args:
        patients: How many.

    Example:
        >>> [round(smallest_drop(count), 4) for count in (8, 45, 90, 200)]
        [0.0967, 0.0208, 0.0106, 0.0048]
    """
    return WORST_LOSS * (1 - math.exp(math.log(ERROR * _BETS[0][1]) / patients))


def count_to_show(spread: float, *, max_drop: float) -> int:
    """Number of patients that show, as often as not, that a candidate without loss is not worse.

    Args:
        spread: Standard deviation of the differences between patients.
        max_drop: Largest loss that passes.

    Example:
        >>> count_to_show(0.0, max_drop=0.005), count_to_show(0.02, max_drop=0.005)
        (194, 231)
    """
    needed = math.inf
    for bet, part in _BETS:
        gains = bet * (max_drop + np.array([-spread, spread])) / (WORST_LOSS - max_drop)
        growth = float(np.log1p(gains).mean()) if gains.min() > -1 else 0.0
        if growth > 0:
            needed = min(needed, -math.log(ERROR * part) / growth)
    if math.isinf(needed):  # scattering beyond any patient's largest loss
        needed = (_Z975 * spread / max_drop) ** 2
    return max(MIN_PATIENTS, math.ceil(needed))


def count_needed(spread: float, *, max_drop: float) -> int:
    """Number of patients by whom a candidate without mean loss is screened as not worse.

    Args:
        spread: Standard deviation of the differences between patients.
        max_drop: Largest loss that passes.

    Example:
        >>> count_needed(0.02, max_drop=0.005)
        44
        >>> count_needed(0.0, max_drop=0.005)
        8
    """
    return max(MIN_PATIENTS, math.floor((_Z95 * spread / max_drop) ** 2) + 1)
