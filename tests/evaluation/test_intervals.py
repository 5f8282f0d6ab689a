"""Means and their bootstrap over patients."""

import numpy as np
import pytest

from bedside.evaluation.intervals import MIN_UNITS, mean_interval
from bedside.spec import Interval


def test_a_mean_leaves_out_what_is_not_a_number():
    found = mean_interval([1.0, None, np.nan, np.inf, 3.0], ["a", "b", "c", "d", "e"])
    assert found.mean == 2.0


def test_nothing_known_gives_nothing():
    assert mean_interval([None, np.nan], ["a", "b"]) == Interval(None, None, None)


@pytest.mark.parametrize("count", range(1, MIN_UNITS))
def test_fewer_than_eight_units_give_a_mean_and_no_interval(count):
    values = np.linspace(0.2, 0.4, 2 * count).tolist()
    patients = [f"p{index // 2}" for index in range(2 * count)]
    assert mean_interval(values, patients) == Interval(pytest.approx(0.3), None, None)
    more = mean_interval([*values, *np.linspace(0.5, 0.7, 8)], [*patients, *"abcdefgh"])
    assert more.low < more.mean < more.high


def test_units_without_a_value_do_not_count():
    values = [0.5] * 7 + [None] * 5
    assert mean_interval(values, [f"p{index}" for index in range(12)]).low is None


def test_equal_values_have_an_interval_without_width():
    found = mean_interval([0.9] * 16, list("aabbccddeeffgghh"))
    assert (found.low, found.mean, found.high) == pytest.approx((0.9, 0.9, 0.9))


def test_the_same_seed_gives_the_same_interval_and_another_one_does_not():
    values = np.random.default_rng(0).normal(size=40).tolist()
    patients = [f"p{index // 2}" for index in range(40)]
    assert mean_interval(values, patients) == mean_interval(values, patients)
    assert mean_interval(values, patients) != mean_interval(values, patients, seed=1)


def test_the_order_of_cases_does_not_matter():
    values = np.random.default_rng(3).random(12).tolist()
    patients = list("abcbdefghijk")
    there = mean_interval(values, patients)
    back = mean_interval(values[::-1], patients[::-1])
    assert (there.low, there.mean, there.high) == pytest.approx((back.low, back.mean, back.high))


def test_copies_of_a_patients_image_do_not_narrow_the_interval():
    values = np.random.default_rng(1).normal(size=30).tolist()
    patients = [f"p{index}" for index in range(30)]
    once = mean_interval(values, patients)
    five_times = mean_interval(values * 5, patients * 5)
    assert (once.low, once.high) == pytest.approx((five_times.low, five_times.high))


def test_the_interval_is_the_normal_one_for_many_independent_patients():
    # Standard error 1 / sqrt(400) = 0.05 of the sample's own deviation; 1.96 of them either
    # side. 4000 draws place an end within about 3 % of the half width; 8 % is asked for.
    values = np.random.default_rng(2).normal(size=400)
    found = mean_interval(values.tolist(), [f"p{index}" for index in range(400)])
    half = 1.96 * values.std() / 20
    assert found.high - found.mean == pytest.approx(half, rel=0.08)
    assert found.mean - found.low == pytest.approx(half, rel=0.08)
