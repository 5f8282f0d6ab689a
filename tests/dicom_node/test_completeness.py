"""A series is complete by what is known, and by waiting only where nothing is."""

import math

import pytest

from bedside.dicom_node.completeness import Known, Step, decide

SETTLE_S, MISSING_S = 10.0, 600.0


def judge(**known):
    return decide(Known(**{"images": 5, **known}), settle_s=SETTLE_S, missing_s=MISSING_S)


@pytest.mark.parametrize(
    ("known", "step"),
    [
        # The header names a number for the series: at once, whoever still sends.
        ({"named": 5, "is_open": True}, Step.COMPLETE),
        ({"named": 6, "is_open": True}, Step.WAIT),
        # A number for an acquisition: another acquisition may follow on the association.
        ({"named": 5, "is_named_whole": False, "is_open": True}, Step.WAIT),
        ({"named": 5, "is_named_whole": False}, Step.COMPLETE),
        ({"named": 5, "is_named_whole": False, "can_ask": True}, Step.ASK),
        (
            {"named": 5, "is_named_whole": False, "can_ask": True, "counted": 9, "asked_s": 1},
            Step.WAIT,
        ),
        # The sender counts, once its associations have ended.
        ({"can_ask": True, "is_open": True}, Step.WAIT),
        ({"can_ask": True}, Step.ASK),
        ({"can_ask": True, "counted": 5, "asked_s": 0.1}, Step.COMPLETE),
        ({"can_ask": True, "counted": 7, "asked_s": 0.1, "idle_s": 599}, Step.WAIT),
        ({"can_ask": True, "counted": 7, "asked_s": 6, "idle_s": 30}, Step.ASK),
        ({"can_ask": True, "counted": 7, "asked_s": 6, "idle_s": 601}, Step.FAIL),
        ({"can_ask": True, "counted": None, "asked_s": 1, "idle_s": 1}, Step.WAIT),
        ({"can_ask": True, "counted": 0, "asked_s": 1, "idle_s": 11}, Step.COMPLETE),
        # Films are whole by themselves, unless the association broke or the header names more.
        ({"are_whole": True}, Step.COMPLETE),
        ({"are_whole": True, "is_released": False}, Step.WAIT),
        ({"are_whole": True, "named": 6}, Step.WAIT),
        # Nothing is known: it settles, and longer where the header hopes for more.
        ({"idle_s": 9.9}, Step.WAIT),
        ({"idle_s": 10}, Step.COMPLETE),
        ({"idle_s": 10, "is_open": True}, Step.WAIT),
        ({"idle_s": 29, "named": 6}, Step.WAIT),
        ({"idle_s": 30, "named": 6}, Step.COMPLETE),
    ],
)
def test_first_of_header_sender_and_silence(known, step):
    verdict = judge(**known)
    assert verdict.step is step
    assert bool(verdict.why) == (step in (Step.COMPLETE, Step.FAIL))


def test_the_wait_ends_when_something_is_to_be_decided():
    assert judge(idle_s=4.0).wait_s == 6.0
    assert judge(is_open=True).wait_s == math.inf
    assert judge(can_ask=True, counted=7, asked_s=2.0, idle_s=30.0).wait_s == 3.0


def test_what_is_missing_is_told():
    late = judge(can_ask=True, counted=7, asked_s=6, idle_s=601)
    assert late.why == "5 of 7 images came; send the series again"
    assert judge(idle_s=30, named=6).why == (
        "no image for 30 s after 5 images, although the header names 6"
    )
