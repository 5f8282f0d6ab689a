"""Admission: bounded, the urgent first, refusals at once, and every place given back."""

import math
import threading
import time

import pytest

from bedside.errors import BusyError, CancelledError, ClosedError, DeadlineError
from bedside.service.admission import Admission, Lane, LaneLimits, Place
from igtl_makers import wait_until

SOME = {lane: LaneLimits(running=1, waiting=2, wait_s=math.inf) for lane in Lane}


def start(place, order, done=None):
    """A thread that enters a place, notes its lane and leaves; it waits for `done` within."""

    def work():
        with place:
            order.append(place.lane)
            if done is not None:
                done.wait(60)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_the_urgent_goes_before_what_came_earlier():
    admission, order = Admission(1, SOME), []
    with admission.reserve(Lane.IMAGE, "a"):
        lanes = (Lane.VOLUME, Lane.IMAGE, Lane.IMAGE)
        threads = [start(admission.reserve(lane, "b"), order) for lane in lanes]
    for thread in threads:
        thread.join(60)
    assert order == [Lane.IMAGE, Lane.IMAGE, Lane.VOLUME]


def test_a_stream_never_waits():
    admission = Admission(1)
    admission.reserve(Lane.IMAGE, "a")
    streams = [admission.reserve(Lane.FRAME, "b") for _ in range(2)]
    assert all(stream.started is not None for stream in streams)
    with pytest.raises(BusyError, match="2 at work, 0 waiting"):
        admission.reserve(Lane.FRAME, "b")


def test_a_volume_leaves_the_other_slot_to_images():
    admission = Admission(2, SOME)
    first, second = (admission.reserve(Lane.VOLUME, "v") for _ in range(2))
    image = admission.reserve(Lane.IMAGE, "i")
    assert (first.started is None, second.started is None, image.started is None) == (
        False, True, False,
    )  # fmt: skip


def test_a_full_lane_refuses_at_once_and_others_do_not():
    admission = Admission(1, SOME)
    places = [admission.reserve(Lane.IMAGE, "a") for _ in range(3)]
    with pytest.raises(BusyError, match="1 at work, 2 waiting") as refused:
        admission.reserve(Lane.IMAGE, "a")
    assert refused.value.retry_after_s >= 1
    with pytest.raises(BusyError):
        admission.check(Lane.IMAGE, "a")
    admission.reserve(Lane.FRAME, "b").leave()
    assert admission.counts[Lane.IMAGE].refused == 2
    places[1].leave()
    admission.reserve(Lane.IMAGE, "a")


def test_what_would_wait_too_long_by_the_measured_cost_is_refused():
    admission = Admission(1, {**SOME, Lane.IMAGE: LaneLimits(1, 10, wait_s=1.5)})
    learn(admission, "slow", 1.0)
    assert admission.cost_s("slow") == pytest.approx(1.0)
    admission.reserve(Lane.IMAGE, "slow")
    admission.reserve(Lane.IMAGE, "slow")
    with pytest.raises(BusyError) as refused:
        admission.reserve(Lane.IMAGE, "slow")
    assert refused.value.retry_after_s == pytest.approx(2.0, abs=0.5)


def learn(admission, key, seconds, *, was_alone=False):
    place = Place(admission, Lane.IMAGE, key, 0, math.inf, was_alone=was_alone)
    for _ in range(30):
        admission._learn(place, seconds)


@pytest.mark.parametrize(("lately_s", "is_taken"), [(0.8, True), (1.5, False), (9.0, False)])
def test_what_would_be_late_by_what_it_takes_alone_is_refused(lately_s, is_taken):
    # One that takes 1 s alone may be done after 2 s: 0.8 s of waiting and 0.8 of work are in time.
    admission = Admission(1, {**SOME, Lane.IMAGE: LaneLimits(1, 10, wait_s=60.0, stretch=2.0)})
    learn(admission, "a", 1.0, was_alone=True)
    learn(admission, "a", lately_s)
    admission.reserve(Lane.IMAGE, "a")  # one that may start is taken, however slow all are
    if is_taken:
        admission.reserve(Lane.IMAGE, "a")
    else:
        with pytest.raises(BusyError):
            admission.reserve(Lane.IMAGE, "a")


def test_work_beside_which_other_work_began_was_not_alone():
    admission = Admission(2)
    with admission.reserve(Lane.IMAGE, "a") as first:
        assert first.was_alone
        with admission.reserve(Lane.IMAGE, "a") as second:
            assert not second.was_alone
        assert not first.was_alone
    with admission.reserve(Lane.IMAGE, "a") as third:
        assert third.was_alone


def test_the_wait_is_that_for_the_first_slot_that_will_be_free():
    admission = Admission(2, SOME)
    learn(admission, "short", 100.0)
    learn(admission, "long", 900.0)
    admission.reserve(Lane.IMAGE, "short")
    admission.reserve(Lane.VOLUME, "long")
    assert admission._wait_s(Lane.IMAGE) == pytest.approx(100.0, abs=30)
    # One volume at a time: the next waits for it, though the other slot is free before.
    assert admission._wait_s(Lane.VOLUME) == pytest.approx(900.0, abs=30)


def test_the_cost_of_work_that_succeeded_is_learned():
    admission = Admission(1)
    with admission.reserve(Lane.IMAGE, "a"):
        time.sleep(0.01)
    learned = admission.cost_s("a")
    assert learned >= 0.01
    with pytest.raises(ValueError, match="no"), admission.reserve(Lane.IMAGE, "a"):
        raise ValueError("no")
    assert admission.cost_s("a") == learned


def test_a_place_that_is_cancelled_while_it_waits_is_given_back():
    admission = Admission(1, SOME)
    with admission.reserve(Lane.IMAGE, "a"):
        waiting, errors = admission.reserve(Lane.IMAGE, "a"), []

        def work():
            try:
                with waiting:
                    raise AssertionError("it had its turn")
            except CancelledError as error:
                errors.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        waiting.cancel()
        thread.join(60)
        assert len(errors) == 1
        assert admission.counts[Lane.IMAGE].waiting == 0


def test_work_past_its_deadline_is_given_up():
    admission = Admission(1, SOME)
    with admission.reserve(Lane.IMAGE, "a", deadline_s=60) as place:
        place.check()
        place.until = time.monotonic() - 1
        with pytest.raises(DeadlineError):
            place.check()
        with pytest.raises(DeadlineError), admission.reserve(Lane.IMAGE, "a", deadline_s=0.01):
            raise AssertionError("it had its turn")
    assert admission.drain(0)


def test_after_the_end_of_service_nothing_is_taken_and_what_was_taken_goes_on():
    admission, order, done = Admission(1, SOME), [], threading.Event()
    threads = [start(admission.reserve(Lane.IMAGE, "a"), order, done) for _ in range(2)]
    wait_until(lambda: order)
    admission.close()
    with pytest.raises(ClosedError):
        admission.reserve(Lane.IMAGE, "a")
    assert not admission.drain(0)
    done.set()
    assert admission.drain(60)
    for thread in threads:
        thread.join(60)
    assert len(order) == 2


def test_two_hundred_threads_leave_nothing_behind():
    admission, refused, done = Admission(2), [], []

    def work(number):
        try:
            with admission.reserve(Lane(number % 3), "a"):
                done.append(number)
        except BusyError as error:
            refused.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(done) + len(refused) == 200
    counts = admission.counts.values()
    assert sum(each.finished for each in counts) == len(done)
    assert sum(each.running + each.waiting for each in counts) == 0
