"""Noninferiority of a candidate, per structure and patient.

Both networks segment the same patients, so each patient is compared with itself. Two questions
are kept apart. Steps of a run are *screened*: might the candidate be as good, going by a bound
that needs few patients and cannot know of failures in patients that were not drawn? That chooses,
and claims nothing. What is *shown* to a reader holds for any distribution of losses, also if one
patient in fifty loses 0.25: that takes hundreds of patients, and with fewer nothing is shown.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bedside.autopilot.bounds import (
    FAILURE,
    MIN_PATIENTS,
    bootstrap_bound,
    bound_share,
    count_needed,
    count_to_show,
    lower_bound,
    smallest_drop,
)
from bedside.errors import PatientsError


@dataclass(frozen=True)
class NoninferiorityResult:
    """Noninferiority of one structure.

    Attributes:
        structure: Its name.
        difference: Mean over patients of candidate minus reference, in Dice.
        spread: Standard deviation of the differences between patients.
        patients: How many have the structure.
        screen_bound: One-sided lower 95 % bootstrap bound of the mean, which is too high where
            few patients lose much.
        screened: Whether it lies above `-max_drop`, from enough patients, and the structure is
            not drawn in more cases that do not have it.
        needed: How many patients would do for a candidate that is no worse and scatters as much
            to be screened.
        bound: One-sided lower 97.5 % bound of the mean, whatever the distribution; see
            `lower_bound`.
        failing: Patients that lose more than `FAILURE`.
        failing_bound: Upper 97.5 % bound of their share, exact binomial.
        needed_to_show: How many patients would do for `passed`.
        passed: Whether the candidate is shown not to be worse: it is screened, and `bound` lies
            above `-max_drop`.
        new_alarms: By how much the part of cases grows in which it is drawn without being there.
    """

    structure: str
    difference: float
    spread: float
    patients: int
    screen_bound: float
    screened: bool
    needed: int
    bound: float
    failing: int
    failing_bound: float
    needed_to_show: int
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
        >>> [(result.screened, result.passed) for result in judge(before, after, max_drop=0.005)]
        [(True, False)]
    """
    structures = dict.fromkeys(name for scores in reference.values() for name in scores)
    alarms = new_alarms or {}
    return tuple(
        _compare(
            structure,
            _subtract(candidate, reference, structure),
            max_drop=max_drop,
            new_alarms=alarms.get(structure, 0.0),
            seed=seed,
        )
        for structure in structures
    )


def _compare(
    structure: str,
    differences: Sequence[float],
    *,
    max_drop: float,
    new_alarms: float,
    seed: int,
) -> NoninferiorityResult:
    """Result of one structure, from the difference of each patient."""
    spread, count = float(np.std(differences, ddof=1)), len(differences)
    screen_bound, bound = bootstrap_bound(differences, seed=seed), lower_bound(differences)
    screened = screen_bound > -max_drop and count >= MIN_PATIENTS and new_alarms <= max_drop
    failing = sum(difference < -FAILURE for difference in differences)
    return NoninferiorityResult(
        structure=structure,
        difference=float(np.mean(differences)),
        spread=spread,
        patients=count,
        screen_bound=screen_bound,
        screened=screened,
        needed=count_needed(spread, max_drop=max_drop),
        bound=bound,
        failing=failing,
        failing_bound=bound_share(failing, count),
        needed_to_show=count_to_show(spread, max_drop=max_drop),
        passed=screened and bound > -max_drop,
        new_alarms=new_alarms,
    )


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
    """Refuse patients by whom even a candidate without loss could not be screened.

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
            f"{worst.patients} patients are too few to choose a network that loses less than "
            f"{max_drop:g} Dice: in {worst.structure} differences between patients already scatter "
            f"by {worst.spread:.4f}. {worst.needed} would do; or allow a larger --max-drop."
        )


def explain(results: Sequence[NoninferiorityResult], *, max_drop: float) -> str:
    """Reason why a candidate is not screened as not worse; empty if it is.

    Example:
        >>> before = {str(n): {"liver": 0.9} for n in range(30)}
        >>> after = {str(n): {"liver": 0.87 if n % 2 else 0.928} for n in range(30)}
        >>> explain(judge(before, after, max_drop=0.005), max_drop=0.005)
        'liver loses 0.0010, and 0.0089 cannot be excluded with 30 patients (95 might do)'
    """
    reasons = []
    for result in results:
        if result.screened:
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
            f"{change}, and {-result.screen_bound:.4f} cannot be excluded with "
            f"{result.patients} patients{more}"
        )
    return "; ".join(reasons)


def describe_shown(result: NoninferiorityResult, *, max_drop: float) -> str:
    """What the patients show of one structure, in words.

    Example:
        >>> before = {str(n): {"liver": 0.9} for n in range(90)}
        >>> [result] = judge(before, before, max_drop=0.005)
        >>> describe_shown(result, max_drop=0.005)
        'not shown: 90 patients can exclude no loss below 0.0106; 194 might do'
    """
    if result.passed:
        return "shown"
    least = smallest_drop(result.patients)
    if least < max_drop:
        return f"not shown; {result.needed_to_show} patients might do"
    return (
        f"not shown: {result.patients} patients can exclude no loss below {least:.4f}; "
        f"{result.needed_to_show} might do"
    )
