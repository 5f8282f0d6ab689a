import numpy as np
import pytest

from bedside.autopilot.bounds import MIN_PATIENTS, bootstrap_bound, count_needed
from bedside.autopilot.noninferiority import check_patients, describe_shown, explain, judge
from bedside.errors import PatientsError


def by_patient(differences, *, base=0.9, structure="a"):
    """Reference and candidate that differ by the given amounts, a patient each."""
    before = {f"p{n}": {structure: base} for n in range(len(differences))}
    after = {f"p{n}": {structure: base + d} for n, d in enumerate(differences)}
    return before, after


def test_the_bootstrap_bound_of_two_patients_is_derived_by_hand():
    # Drawn with replacement, means are -0.01, 0 and 0.01 with chances 1/4, 1/2, 1/4: the 5th
    # percentile is -0.01 from the mean, and sqrt(2 / 1) widens it.
    assert bootstrap_bound([-0.01, 0.01]) == pytest.approx(-0.01 * np.sqrt(2))


def test_the_bootstrap_bound_of_many_patients_is_the_normal_one():
    differences = np.random.default_rng(3).normal(0.002, 0.01, 400)
    expected = differences.mean() - 1.6449 * differences.std(ddof=1) / 20
    assert bootstrap_bound(differences) == pytest.approx(expected, abs=1e-4)


def test_the_same_loss_for_everybody_is_known_exactly():
    [lost] = judge(*by_patient([-0.004] * 20), max_drop=0.005)
    assert lost.screened
    assert lost.screen_bound == pytest.approx(-0.004)
    assert lost.difference == pytest.approx(-0.004)
    [too_much] = judge(*by_patient([-0.006] * 20), max_drop=0.005)
    assert not too_much.screened


def test_a_candidate_as_good_on_average_is_refused_where_patients_scatter_too_much():
    [result] = judge(*by_patient([0.05, -0.05] * 10), max_drop=0.005)
    assert result.difference == pytest.approx(0)
    assert not result.screened
    # (1.6449 * 0.0513 / 0.005)^2 = 284.8
    assert result.needed == 285


def test_patients_that_would_do_do():
    spread = 0.02
    count = count_needed(spread, max_drop=0.005)
    half = np.full(count // 2, spread)
    [result] = judge(*by_patient([*half, *-half]), max_drop=0.005)
    assert result.screened
    short = np.full(count // 4, spread)
    [result] = judge(*by_patient([*short, *-short]), max_drop=0.005)
    assert not result.screened


def test_each_structure_has_to_pass_by_itself():
    before = {f"p{n}": {"good": 0.9, "bad": 0.8} for n in range(20)}
    after = {f"p{n}": {"good": 0.95, "bad": 0.78} for n in range(20)}
    good, bad = judge(before, after, max_drop=0.005)
    assert good.screened
    assert not bad.screened
    assert explain([good, bad], max_drop=0.005) == "bad loses 0.0200"
    assert explain([good], max_drop=0.005) == ""


def test_order_of_patients_does_not_matter():
    before, after = by_patient(np.random.default_rng(0).normal(0, 0.01, 30))
    assert judge(before, after, max_drop=0.01) == judge(
        dict(reversed(before.items())), dict(reversed(after.items())), max_drop=0.01
    )


def test_too_few_patients_are_refused_with_the_number_that_would_do():
    results = judge(*by_patient([0.02, -0.02, 0.01, -0.01]), max_drop=0.005)
    with pytest.raises(PatientsError, match=r"4 patients are too few .* 37 would do"):
        check_patients(results, max_drop=0.005)


def test_a_handful_without_any_scatter_is_still_too_few():
    results = judge(*by_patient([0.0] * 4), max_drop=0.005)
    with pytest.raises(PatientsError, match=f"{MIN_PATIENTS} would do"):
        check_patients(results, max_drop=0.005)
    check_patients(judge(*by_patient([0.0] * MIN_PATIENTS), max_drop=0.005), max_drop=0.005)


def test_one_patient_compares_with_nobody():
    with pytest.raises(PatientsError, match="1 patient"):
        judge(*by_patient([0.0]), max_drop=0.005)


def test_what_screens_a_step_does_not_show_it():
    [result] = judge(*by_patient([0.0] * 90), max_drop=0.005)
    assert (result.screened, result.passed) == (True, False)
    assert "90 patients can exclude no loss below 0.0106" in describe_shown(result, max_drop=0.005)
    [result] = judge(*by_patient([0.0] * 200), max_drop=0.005)
    assert result.passed
    assert describe_shown(result, max_drop=0.005) == "shown"


def test_what_is_not_screened_is_not_shown_either():
    before, after = by_patient([0.0] * 300)
    [result] = judge(before, after, max_drop=0.005, new_alarms={"a": 0.1})
    assert (result.screened, result.passed) == (False, False)


def test_patients_who_lose_much_are_counted():
    [result] = judge(*by_patient([0.0] * 87 + [-0.06, -0.2, -0.0501]), max_drop=0.005)
    assert result.failing == 3
    assert result.failing_bound == pytest.approx(0.0943, abs=1e-4)
