"""Work side by side: the same results in the same order, no further ahead than it is worked on."""

import threading
import time

import cv2
import pytest

from bedside.system import parallel as workers
from bedside.system.parallel import count_workers, ordered_map, run_ahead, run_in_background
from bedside.system.process_memory import peak_bytes, resident_bytes, trim_heap


@pytest.fixture(params=[1, 2, 4])
def threads(request, monkeypatch):
    monkeypatch.setattr(workers, "count_workers", lambda: request.param)
    return request.param


def test_results_come_in_the_order_of_their_items(threads):
    def slow_at_first(item):
        time.sleep(0.02 if item == 0 else 0)
        return 10 * item

    assert list(ordered_map(slow_at_first, range(9))) == [10 * item for item in range(9)]


def test_items_are_taken_no_further_ahead_than_is_worked_on(threads):
    taken = []

    def items():
        for item in range(50):
            taken.append(item)
            yield item

    results = ordered_map(lambda item: item, items())
    for done in range(10):
        assert next(results) == done
        assert len(taken) <= done + 1 + threads
    results.close()
    assert len(taken) <= 10 + threads


def test_several_are_worked_on_at_a_time(monkeypatch):
    monkeypatch.setattr(workers, "count_workers", lambda: 2)
    both = threading.Barrier(2, timeout=20)
    list(ordered_map(lambda _: both.wait(), range(2)))


def test_what_an_item_raises_is_raised_in_its_turn(threads):
    def work(item):
        if item == 2:
            raise ValueError("item 2")
        return item

    results = ordered_map(work, range(5))
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="item 2"):
        next(results)


def test_a_call_beside_a_block_is_over_when_the_block_is(threads):
    done = []

    def call():
        time.sleep(0.05)
        done.append(True)

    def fail():
        with run_in_background(call):
            raise KeyError("in the block")

    with pytest.raises(KeyError):
        fail()
    assert done == [True]


def test_what_a_call_raises_is_raised_where_it_is_waited_for(threads):
    def fail():
        raise ValueError("beside")

    with run_in_background(fail) as result, pytest.raises(ValueError, match="beside"):
        result()


def test_work_is_spread_as_opencv_spreads_its_own():
    before = cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        assert count_workers() == 1
        cv2.setNumThreads(64)
        assert 1 < count_workers() <= 8
    finally:
        cv2.setNumThreads(before)


def test_memory_that_is_freed_can_be_given_back():
    # Too small to be mapped one by one, and kept apart by what stays.
    blocks = [bytes([index % 255 + 1]) * 100_000 for index in range(1500)]
    kept = blocks[::100]
    full = resident_bytes()
    del blocks
    trim_heap()
    assert resident_bytes() < full - 100_000_000
    assert len(kept) == 15
    # The system counts in lots of pages, and not both at the same moment.
    assert peak_bytes() > 0.95 * full


def test_ctrl_c_does_not_wait_for_ever_for_what_is_done_beside(monkeypatch):
    monkeypatch.setattr(workers, "count_workers", lambda: 2)
    monkeypatch.setattr(workers, "_PATIENCE_S", 0.1)
    never, begun = threading.Event(), threading.Event()

    def hang():
        begun.set()
        never.wait()

    def press_ctrl_c():
        with run_in_background(hang):
            assert begun.wait(20)
            raise KeyboardInterrupt

    def interrupt():
        with pytest.raises(KeyboardInterrupt):
            press_ctrl_c()

    waiting = threading.Thread(target=interrupt)
    waiting.start()
    waiting.join(20)
    hung = waiting.is_alive()
    never.set()
    assert not hung


def test_any_other_error_waits_for_what_is_done_beside(monkeypatch):
    monkeypatch.setattr(workers, "count_workers", lambda: 2)
    go, done = threading.Event(), []

    def work():
        assert go.wait(20)
        time.sleep(0.02)
        done.append(True)

    def fail():
        with run_in_background(work):
            go.set()
            raise ValueError("in the block")

    with pytest.raises(ValueError, match="in the block"):
        fail()
    assert done


def test_what_runs_ahead_is_one_item_ahead_and_raises_in_its_place(threads):
    done = []

    def work(item):
        done.append(item)
        return 1 / item

    results = run_ahead(work, [4, 2, 1, 0, 5])
    assert next(results) == 0.25
    assert next(results) == 0.5
    assert len(done) <= 3
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)
