"""Noninferiority of a candidate, per structure and patient.

Both networks segment the same patients, so each patient is compared with itself. What is
asked is one-sided: may the mean difference be as bad as `-max_drop`? Only if its lower 95 %
bound lies above that does a candidate pass. A candidate that is as good on average but
whose bound is wide is not: too few patients, or differences that scatter too much.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bedside.errors import PatientsError
from bedside.evaluation.intervals import MIN_UNITS

MIN_PATIENTS = MIN_UNITS
"""Patients below which a bootstrap has too few different draws to put a bound on anything."""

_RESAMPLES = 10_000
_Z95 = 1.6449
"""95th percentile of the normal distribution."""


@dataclass(frozen=True)
class NoninferiorityResult:
    """Noninferiority of one structure.

    Attributes:
        structure: Its name.
        difference: Mean over patients of candidate minus reference, in Dice.
        bound: One-sided lower 95 % bound of it.
        spread: Standard deviation of the differences between patients.
        patients: How many have the structure.
        needed: How many would do for a candidate that is no worse and scatters as much.
        passed: Whether the bound lies above `-max_drop`, from enough patients, and the structure
            is not drawn in more cases that do not have it.
        new_alarms: By how much the part of cases grows in which it is drawn without being there.
    """

    structure: str
    difference: float
    bound: float
    spread: float
    patients: int
    needed: int
    passed: bool
    new_alarms: float = 0.0


def judge(
    reference: Mapping[str, Mapping[str, float]],
    candidate: Mapping[str, Mapping[str, float]],
    *,
    max_drop: float,
    new_alarms: Mapping[str, float] | None = None,
    seed: int = 0,
) -> tuple[NoninferiorityResult, ...]:
    """Compare two networks on the same patients.

    Every structure has to pass by itself, so that no correction for several of them is due.

    Args:
        reference: Patient -> structure -> mean Dice; absent structures are left out.
        candidate: The same patients and structures.
        max_drop: Largest loss that passes.
        new_alarms: See `NoninferiorityResult`; none if left out.
        seed: Seed of the bootstrap.

    Returns:
        A result per structure, in their order.

    Raises:
        PatientsError: If no two patients have a structure.

    Source:
        Piaggio et al. 2012, Reporting of noninferiority trials, doi:10.1001/jama.2012.87802.

    Example:
        >>> before = {str(n): {"a": 0.9} for n in range(20)}
        >>> after = {str(n): {"a": 0.899} for n in range(20)}
        >>> [result.passed for result in judge(before, after, max_drop=0.005)]
        [True]
    """
    structures = dict.fromkeys(name for scores in reference.values() for name in scores)
    results = []
    for structure in structures:
        differences = _subtract(candidate, reference, structure)
        bound, alarms = lower_bound(differences, seed=seed), (new_alarms or {}).get(structure, 0.0)
        spread, enough = float(np.std(differences, ddof=1)), len(differences) >= MIN_PATIENTS
        results.append(
            NoninferiorityResult(
                structure=structure,
                difference=float(np.mean(differences)),
                bound=bound,
                spread=spread,
                patients=len(differences),
                needed=count_needed(spread, max_drop=max_drop),
                passed=bound > -max_drop and enough and alarms <= max_drop,
                new_alarms=alarms,
            )
        )
    return tuple(results)


def _subtract(
    candidate: Mapping[str, Mapping[str, float]],
    reference: Mapping[str, Mapping[str, float]],
    structure: str,
) -> list[float]:
    """Differences of a structure's scores, one a patient that has it.

    Raises:
        PatientsError: If fewer than two have it.
    """
    differences = [
        candidate[patient][structure] - scores[structure]
        for patient, scores in sorted(reference.items())
        if structure in scores
    ]
    if len(differences) < 2:
        raise PatientsError(
            f"{structure}: there is {len(differences)} patient to compare on; "
            f"expected at least {MIN_PATIENTS}."
        )
    return differences


def lower_bound(differences: Sequence[float], *, seed: int = 0) -> float:
    """Bound the mean of differences from below, one-sided with 95 %, by a bootstrap.

    Patients are drawn with replacement; the bound is the 5th percentile of the means, its
    distance from the mean widened by sqrt(n / (n - 1)), because the spread of a sample is that
    much too small.

    Args:
        differences: One value a patient, at least two.
        seed: Seed of the draws.

    Example:
        >>> lower_bound([0.01] * 10)
        0.01
        >>> values = [0.0, 0.02] * 50
        >>> abs(lower_bound(values) - (0.01 - 1.645 * 0.01005 / 10)) < 2e-4
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


def count_needed(spread: float, *, max_drop: float) -> int:
    """Number of patients that show that a candidate without mean loss is not worse.

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


def check_count(patients: int, *, wanted_to: str = "put a bound on a loss") -> None:
    """Refuse too few patients for any result.

    Args:
        patients: How many there are.
        wanted_to: What they are needed for, in words.

    Raises:
        PatientsError: If there are fewer than `MIN_PATIENTS`.
    """
    if patients < MIN_PATIENTS:
        raise PatientsError(
            f"there are {patients} validation patients; at least {MIN_PATIENTS} are needed to "
            f"{wanted_to}. Give validation a larger share of the split, or add patients."
        )


def check_patients(results: Sequence[NoninferiorityResult], *, max_drop: float) -> None:
    """Refuse patients on whom even a candidate without loss could not pass.

    Args:
        results: Of a candidate that differs as little as a useful one can.
        max_drop: Largest loss that passes.

    Raises:
        PatientsError: If there are too few; it names how many suffice.
    """
    short = [result for result in results if result.patients < result.needed]
    if short:
        worst = max(short, key=lambda result: result.needed)
        raise PatientsError(
            f"{worst.patients} patients are too few to show that less than {max_drop:g} Dice is "
            f"lost: in {worst.structure} differences between patients already scatter by "
            f"{worst.spread:.4f}. {worst.needed} would do; or allow a larger --max-drop."
        )


def explain(results: Sequence[NoninferiorityResult], *, max_drop: float) -> str:
    """Reason why a candidate fails; empty if it passes.

    Example:
        >>> result = NoninferiorityResult("liver", -0.001, -0.007, 0.02, 30, 44, False)
        >>> explain([result], max_drop=0.005)
        'liver loses 0.0010, and 0.0070 cannot be excluded with 30 patients (44 might do)'
    """
    reasons = []
    for result in results:
        if result.passed:
            continue
        if result.new_alarms > max_drop:
            reasons.append(
                f"{result.structure} is drawn in {100 * result.new_alarms:.2g} % more of the "
                "cases, where it is not"
            )
            continue
        change = f"{result.structure} " + (
            f"loses {-result.difference:.4f}"
            if result.difference < 0
            else f"gains {result.difference:.4f}"
        )
        if result.difference <= -max_drop:
            reasons.append(change)
            continue
        more = f" ({result.needed} might do)" if result.needed > result.patients else ""
        reasons.append(
            f"{change}, and {-result.bound:.4f} cannot be excluded with "
            f"{result.patients} patients{more}"
        )
    return "; ".join(reasons)
