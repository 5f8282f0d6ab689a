"""Which call is the fastest, by a made clock: nothing here depends on the machine."""

import itertools
import random

import pytest

from bedside.runtime import machine
from bedside.runtime.fastest import MIN_ROUNDS, Fastest, find_fastest


class Machine:
    """A clock that only calls move on, and a count of how long threads waited for a core.

    Args:
        disturb: Takes the number of the call and its span in s; gives what other work adds to
            it, and how much of that was seen as waiting.
    """

    def __init__(self, disturb=lambda number, span_s: (0.0, 0.0)) -> None:
        self.now_s, self.waited_s, self.number = 0.0, 0.0, 0
        self.calls: list[str] = []
        self._disturb = disturb

    def call(self, name: str, span_ms: float):
        def run() -> None:
            added_s, waited_s = self._disturb(self.number, span_ms / 1e3)
            self.now_s += span_ms / 1e3 + added_s
            self.waited_s += waited_s
            self.number += 1
            self.calls.append(name)

        return run

    def find(self, *, total_s: float = 5.0, **spans_ms: float) -> Fastest:
        calls = {name: self.call(name, span) for name, span in spans_ms.items()}
        return find_fastest(
            calls, total_s=total_s, clock=lambda: self.now_s, waited=lambda: self.waited_s
        )


def test_what_is_clearly_the_fastest_is_found_and_timed() -> None:
    found = Machine().find(first=3.0, second=1.6, third=3.4)
    assert found.name == "second"
    assert found.times["second"].quartile_ms == pytest.approx(1.6)
    assert found.times["first"].low_ms == pytest.approx(3.0)
    assert found.times["second"].rounds == MIN_ROUNDS


def test_what_is_hardly_faster_is_not_taken() -> None:
    assert Machine().find(first=1.0, second=0.97).name == "first"
    assert Machine().find(first=1.0, second=0.90).name == "second"
    assert Machine().find(first=1.0, second=0.60, third=0.59).name == "second"


def test_one_call_needs_no_clock() -> None:
    machine = Machine()
    assert machine.find(only=1.0) == Fastest("only", {})
    assert machine.calls == []


def test_calls_take_turns_that_begin_with_calls_that_do_not_count() -> None:
    machine = Machine()
    machine.find(first=10.0, second=14.0)
    turns = [(name, len(list(group))) for name, group in itertools.groupby(machine.calls)]
    # The order turns round, so that two turns of one stand together; 25 ms settle, 5 count.
    assert turns[:3] == [("first", 3 + 5), ("second", 2 * (2 + 5)), ("first", 2 * (3 + 5))]


@pytest.mark.parametrize("seed", range(20))
def test_a_loaded_machine_gives_the_answer_of_an_idle_one(seed: int) -> None:
    """Other work hits two of three calls, and the second call twice as hard as the first."""
    draw = random.Random(seed)

    def disturb(number: int, span_s: float) -> tuple[float, float]:
        added_s = draw.choice((0.0, 4e-3, 8e-3)) * (2 if span_s == 1.6e-3 else 1)
        return added_s + draw.uniform(0, 0.1) * span_s, added_s

    assert Machine(disturb).find(first=3.4, second=1.6).name == "second"


@pytest.mark.parametrize("seed", range(20))
def test_a_machine_whose_speed_changes_gives_the_same_answer(seed: int) -> None:
    """For a while everything takes three times as long, and nothing says so."""
    draw = random.Random(seed)
    slow = [draw.random() < 0.4 for _ in range(1000)]

    def disturb(number: int, span_s: float) -> tuple[float, float]:
        return (2 * span_s if slow[number // 40 % 1000] else 0.0), 0.0

    assert Machine(disturb).find(first=2.2, second=1.5).name == "second"


def test_a_machine_too_busy_for_any_clean_call_gives_no_answer_in_time() -> None:
    machine = Machine(lambda number, span_s: (span_s, span_s))
    found = machine.find(first=3.0, second=1.0, total_s=2.0)
    assert found.name is None
    assert machine.now_s < 2.5
    # What was seen is told all the same, as seen on a busy machine.
    assert found.times["first"].quartile_ms == pytest.approx(6.0)
    assert found.times["first"].rounds == 0


def test_times_that_do_not_separate_give_no_answer() -> None:
    draw = random.Random(0)
    wild = Machine(lambda number, span_s: (draw.uniform(0, 20) * span_s, 0.0))
    found = wild.find(first=1.0, second=1.0, total_s=1.0)
    assert found.name is None
    assert found.times["first"].low_ms < found.times["first"].high_ms


def test_slow_calls_get_the_rounds_that_a_judgement_needs() -> None:
    machine = Machine()
    found = machine.find(first=200.0, second=150.0, third=600.0, total_s=2.0)
    assert found.name == "second"
    assert found.times["second"].rounds == MIN_ROUNDS
    # What is hopeless is not waited for again and again.
    assert found.times["third"].rounds == 3


def test_calls_of_many_seconds_are_given_up() -> None:
    machine = Machine()
    assert machine.find(first=9000.0, second=3000.0, total_s=1.0).name is None
    assert len(machine.calls) < 10


def test_waiting_for_a_core_is_counted_where_the_system_counts_it(monkeypatch) -> None:
    assert machine.read_waited_s() >= 0
    monkeypatch.setattr(machine.os, "scandir", lambda path: (_ for _ in ()).throw(OSError()))
    assert machine.read_waited_s() == 0
