"""A delivery tells the truth: sent after success, confirmed after a question, failed with why."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedside.dicom_node.sending.delivery import (
    Answer,
    Delivery,
    FileReply,
    Finding,
    Presence,
    State,
    Step,
    after_asking,
    after_sending,
    next_step,
    pause_s,
    summarize,
)
from bedside.dicom_node.sending.destination import (
    DicomDestination,
    RetryPolicy,
    WebDestination,
)
from bedside.dicom_node.sending.statuses import judge_storage
from bedside.errors import SpecError

POLICY = RetryPolicy(first_s=2, longest_s=60, max_attempts=3, max_checks=2, give_up_after_s=1000)
NEW = Delivery("job", "pacs", (), created_s=0.0, state=State.SENDING)


def send(delivery, *answers, now_s=10.0):
    replies = [FileReply(f"1.{i}", answer, answer.value) for i, answer in enumerate(answers)]
    return after_sending(delivery, replies, policy=POLICY, now_s=now_s, jitter=0.0)


def ask(delivery, presence, now_s=10.0):
    found = Finding(presence, "it is not there")
    return after_asking(delivery, found, policy=POLICY, now_s=now_s, jitter=0.0)


def test_it_is_sent_once_each_file_was_answered_with_success():
    both = send(NEW, Answer.STORED, Answer.STORED)
    assert (both.state, both.stored) == (State.SENT, ("1.0", "1.1"))
    assert both.warnings == ("stored",)
    one = send(NEW, Answer.STORED, Answer.RETRY)
    assert (one.state, one.stored, one.attempts) == (State.WAITING, ("1.0",), 1)
    assert one.due_s == 11.0
    assert send(NEW, Answer.STORED, Answer.REFUSED).state is State.FAILED


def test_a_destination_that_is_down_costs_no_attempt_but_time():
    down = send(NEW, Answer.LATER, now_s=999)
    assert (down.state, down.attempts, down.why) == (State.WAITING, 0, "later")
    given_up = send(replace(down, state=State.SENDING), Answer.LATER, now_s=1000)
    assert given_up.state is State.FAILED
    assert given_up.why.startswith("not sent after 0.3 hours: later")


def test_attempts_that_are_answered_with_a_failure_end():
    delivery = NEW
    for _ in range(3):
        assert delivery.state is not State.FAILED
        delivery = send(replace(delivery, state=State.SENDING), Answer.RETRY)
    assert (delivery.state, delivery.why) == (State.FAILED, "not sent after 3 attempts: retry")


def test_what_may_have_arrived_is_asked_for_before_it_is_sent_again():
    unknown = send(NEW, Answer.UNKNOWN)
    assert unknown.state is State.SENDING
    assert next_step(unknown, can_ask=True) is Step.ASK
    assert next_step(unknown, can_ask=False) is Step.SEND
    assert ask(unknown, Presence.PRESENT).state is State.CONFIRMED
    absent = ask(unknown, Presence.ABSENT)
    assert (absent.state, absent.attempts) == (State.WAITING, 1)
    assert ask(unknown, Presence.UNKNOWN).state is State.SENDING


def test_a_file_that_is_not_there_is_asked_for_again_and_then_sent_again():
    sent = send(NEW, Answer.STORED)
    assert next_step(sent, can_ask=True) is Step.ASK
    assert next_step(sent, can_ask=False) is Step.NOTHING
    once = ask(sent, Presence.ABSENT)
    assert (once.state, once.checks) == (State.SENT, 1)
    twice = ask(once, Presence.ABSENT)
    assert (twice.state, twice.stored, twice.attempts) == (State.WAITING, (), 1)
    assert ask(sent, Presence.REPORTED_LATER).due_s == 10 + POLICY.report_s
    late = ask(sent, Presence.UNKNOWN, now_s=2000)
    assert late.state is State.FAILED
    assert late.why.startswith("sent, but not confirmed after 0.6 hours")


def test_what_is_there_is_not_sent_again():
    unknown = send(NEW, Answer.UNKNOWN)
    found = summarize("C-FIND", {"1.0": Presence.PRESENT, "1.1": Presence.ABSENT})
    assert (found.presence, found.why) == (Presence.ABSENT, "C-FIND: absent")
    after = after_asking(unknown, found, policy=POLICY, now_s=0.0, jitter=0.0)
    assert (after.state, after.stored) == (State.WAITING, ("1.0",))
    found = summarize("C-FIND", {"1.0": Presence.UNKNOWN, "1.1": Presence.ABSENT})
    assert found.presence is Presence.UNKNOWN
    found = summarize("C-FIND", {"1.0": Presence.PRESENT})
    assert (found.presence, found.why, found.there) == (Presence.PRESENT, "", ("1.0",))


@given(
    st.lists(st.sampled_from([*Answer, *Presence]), max_size=40),
    st.booleans(),
)
def test_whatever_happens_it_is_confirmed_only_by_a_question(events, can_ask):
    delivery, now_s = replace(NEW, state=State.WAITING), 0.0
    for event in events:
        now_s += 1
        step = next_step(delivery, can_ask=can_ask)
        before = delivery
        if delivery.state in (State.CONFIRMED, State.FAILED) or step is Step.NOTHING:
            break
        if step is Step.SEND and isinstance(event, Answer):
            delivery = send(replace(delivery, state=State.SENDING), event, now_s=now_s)
            assert delivery.state is not State.CONFIRMED
            assert (delivery.state is State.SENT) == (event is Answer.STORED)
        elif step is Step.ASK and isinstance(event, Presence):
            delivery = ask(delivery, event, now_s=now_s)
            assert (delivery.state is State.CONFIRMED) == (event is Presence.PRESENT)
        assert delivery.attempts >= before.attempts
        assert delivery.attempts <= POLICY.max_attempts
        assert bool(delivery.why) or delivery.state is not State.FAILED


@given(st.integers(0, 10_000), st.floats(0, 1, exclude_max=True))
def test_pauses_grow_and_stay_below_the_longest(failures, jitter):
    pause = pause_s(POLICY, failures, jitter)
    assert 0 < pause <= POLICY.longest_s
    assert pause_s(POLICY, failures + 1, jitter) >= pause


@pytest.mark.parametrize(
    ("status", "answer", "words"),
    [
        (0x0000, Answer.STORED, ""),
        (0x0111, Answer.STORED, ""),
        (0xB000, Answer.STORED, "changed some of its elements (B000)"),
        (0xB006, Answer.STORED, "discarded"),
        (0xB007, Answer.STORED, "does not fit its SOP class"),
        (0xA700, Answer.RETRY, "out of resources (A700)"),
        (0xA7FF, Answer.RETRY, "out of resources"),
        (0xA900, Answer.REFUSED, "does not match"),
        (0xC123, Answer.REFUSED, "not understood (C123)"),
        (0x0122, Answer.REFUSED, "not supported"),
        (0x0110, Answer.RETRY, "processing failure"),
        (0x7777, Answer.RETRY, "failure (7777)"),
    ],
)
def test_every_status_means_something(status, answer, words):
    reply = judge_storage("1.2", status)
    assert reply.answer is answer
    assert words in reply.why
    assert bool(words) == bool(reply.why)


@pytest.mark.parametrize(
    "make",
    [
        lambda: DicomDestination("a", "host", 0, "PACS"),
        lambda: DicomDestination("a", "host", 104, "A TITLE THAT IS TOO LONG"),
        lambda: DicomDestination("a", "host", 104, "PACS", confirm="qido"),
        lambda: WebDestination("a", "ftp://pacs/dicom-web"),
        lambda: WebDestination("a", "https:///dicom-web"),
        lambda: WebDestination("a", "https://pacs", confirm="find"),
        lambda: RetryPolicy(first_s=0),
        lambda: RetryPolicy(give_up_after_s=float("inf")),
        lambda: RetryPolicy(max_attempts=0),
    ],
)
def test_settings_that_cannot_work_are_refused(make):
    with pytest.raises(SpecError):
        make()
