import pytest

from bedside.autopilot.target import CompressionSettings, Target, check_reachable
from bedside.errors import BudgetError, UsageError


@pytest.mark.parametrize("target_ms", [0, -1, float("nan")])
def test_a_target_that_is_no_time_is_refused(target_ms):
    with pytest.raises(BudgetError, match="expected more than 0"):
        Target(target_ms=target_ms)


def test_no_budget_is_none():
    with pytest.raises(BudgetError, match="--target-ms"):
        Target()


def test_a_target_below_an_empty_graph_is_refused_with_one_that_is_not():
    with pytest.raises(BudgetError, match=r"an empty graph takes 0\.2 ms .* at least 0\.4 ms"):
        check_reachable(Target(target_ms=0.1), empty_ms=0.2)
    check_reachable(Target(target_ms=0.4), empty_ms=0.2)
    check_reachable(Target(max_size_bytes=1000), empty_ms=0.2)


@pytest.mark.parametrize("wrong", [{"max_drop": 0}, {"max_drop": 1.5}, {"threads": 0}])
def test_numbers_that_mean_nothing_are_refused(wrong):
    with pytest.raises(UsageError):
        Target(target_ms=1, **wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": -1},
        {"step_fraction": 0.0},
        {"step_fraction": 0.02},
        {"rate": 0},
        {"step_fraction": 1.0},
    ],
)
def test_effort_that_means_nothing_is_refused(wrong):
    with pytest.raises(UsageError):
        CompressionSettings(**wrong)
