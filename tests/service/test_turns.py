"""Turns to compute: in order, and shared."""

import threading

from bedside.service.turns import Turns
from igtl_makers import wait_until


def test_those_that_wait_go_in_order_and_nobody_is_beside_them():
    turns, order, inside = Turns(1), [], []

    def work(number):
        with turns.taken():
            inside.append(number)
            assert len(inside) == 1
            order.append(number)
            inside.remove(number)

    threads = []
    with turns.taken():
        for number in range(5):
            threads.append(threading.Thread(target=work, args=(number,)))
            threads[-1].start()
            wait_until(lambda n=number: len(turns._waiting) == n + 1)
        assert order == []
    for thread in threads:
        thread.join(60)
    assert order == [0, 1, 2, 3, 4]


def test_long_work_lets_short_work_go_between_its_frames():
    turns, order = Turns(1), []

    def short():
        with turns.taken():
            order.append("short")

    with turns.taken():
        thread = threading.Thread(target=short)
        thread.start()
        wait_until(lambda: turns._waiting)
        turns.share()
        order.append("the next frame")
        turns.share()  # nobody waits: it goes on
    thread.join(60)
    assert order == ["short", "the next frame"]


def test_a_turn_is_given_back_after_an_error():
    turns = Turns(1)
    for _ in range(2):
        try:
            with turns.taken():
                raise ValueError("no")
        except ValueError:
            pass
    with turns.taken():
        assert turns._free == 0
    assert turns._free == 1
