import math

import numpy as np
import pytest

from bedside.autopilot.bounds import (
    WORST_LOSS,
    bound_share,
    count_to_show,
    excludes,
    lower_bound,
    smallest_drop,
)

MARGIN = 0.005
ERROR = 0.06
RUNS = 250


def draw(shape, random, count, spread):
    """Differences whose mean is the margin, in one of four shapes."""
    if shape == "normal":
        return random.normal(-MARGIN, spread, count)
    if shape == "t, 3 degrees of freedom":
        return spread * random.standard_t(3, count) / math.sqrt(3) - MARGIN
    share, loss = {"5 % lose 0.10": (0.05, 0.10), "2 % lose 0.25": (0.02, 0.25)}[shape]
    usual = random.normal(0.0, spread, count)
    return np.where(random.random(count) < share, -loss, usual)


@pytest.mark.parametrize(
    "shape", ["normal", "t, 3 degrees of freedom", "5 % lose 0.10", "2 % lose 0.25"]
)
@pytest.mark.parametrize("spread", [0.002, 0.01])
def test_a_loss_of_the_margin_is_seldom_excluded_at_any_number_of_patients(shape, spread):
    random = np.random.default_rng(5)
    for count in (8, 45, 90, 140, 200, 300, 600):
        wrong = sum(excludes(draw(shape, random, count, spread), MARGIN) for _ in range(RUNS))
        assert wrong <= ERROR * RUNS, count


def test_enough_patients_without_a_loss_show_it():
    random = np.random.default_rng(1)
    shown = sum(excludes(random.normal(0.0, 0.01, 300), MARGIN) for _ in range(100))
    assert shown >= 95
    count = count_to_show(0.01, max_drop=MARGIN)
    shown = sum(excludes(random.normal(0.0, 0.01, count), MARGIN) for _ in range(200))
    assert 60 <= shown <= 150


def test_the_bound_without_any_loss_is_derived_by_hand():
    # Four fifths of the stake grow by 0.25 / (0.25 - x) a patient, until they are 40 times it.
    alone = WORST_LOSS * (1 - (1 / 50) ** (1 / 90))
    assert smallest_drop(90) == pytest.approx(alone)
    assert lower_bound([0.0] * 90) == pytest.approx(-alone, abs=1e-4)


def test_the_bound_is_where_a_loss_stops_being_excluded():
    values = np.random.default_rng(2).normal(-0.01, 0.03, 60)
    bound = lower_bound(values)
    assert bound < values.mean()
    assert excludes(values, -bound + 1e-6)
    assert not excludes(values, -bound - 1e-6)


def test_the_order_of_patients_does_not_matter():
    values = np.random.default_rng(3).normal(0, 0.02, 40)
    assert lower_bound(values) == pytest.approx(lower_bound(values[::-1]), abs=1e-9)


def test_a_loss_beyond_the_largest_that_is_allowed_for_lowers_the_bound():
    assert lower_bound([0.0] * 199 + [-0.8]) < lower_bound([0.0] * 199 + [-0.25])
    assert lower_bound([-0.4] * 20) == pytest.approx(-0.4)


def test_the_share_of_nobody_and_of_everybody_is_bounded_by_hand():
    # (1 - p) ** 90 = 0.025
    assert bound_share(0, 90) == pytest.approx(1 - 0.025 ** (1 / 90))
    assert bound_share(7, 7) == 1.0
