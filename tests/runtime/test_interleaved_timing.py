"""Calls are timed in turns, and the machine has a name."""

from bedside.runtime.interleaved_timing import time_interleaved
from bedside.runtime.machine import fingerprint


def test_calls_take_turns_and_the_first_of_a_turn_is_not_counted() -> None:
    seen: list[str] = []
    calls = {name: lambda name=name: seen.append(name) for name in ("a", "b")}  # type: ignore[misc]
    times = time_interleaved(calls, total_s=0, calls_a_turn=2, rounds=3, warm_up=1)
    assert seen == ["a", "b", *(["a"] * 3 + ["b"] * 3) * 3]
    assert times["a"].calls == times["b"].calls == 6


def test_percentiles_are_in_order() -> None:
    times = time_interleaved({"sum": lambda: sum(range(1000))}, total_s=0.01)["sum"]
    assert 0 < times.best_ms <= times.p50_ms <= times.p95_ms <= times.p99_ms


def test_other_packages_are_another_machine() -> None:
    assert fingerprint() != fingerprint(packages=("numpy",))
    assert fingerprint(packages=("not-there",)) == fingerprint(packages=("not-there",))
