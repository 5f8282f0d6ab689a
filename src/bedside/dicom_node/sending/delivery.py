"""One delivery of results to one destination: its states, and what leads from one to the next.

Pure: no clock, no thread, no network. A delivery is `sent` only after each file was answered with
success, and `confirmed` only after the destination was asked and has them. `sending` on disk means
that nobody knows whether the files arrived; the destination is asked before they are sent again.
"""

from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from bedside.dicom_node.sending.destination import RetryPolicy


class State(StrEnum):
    """States of a delivery; `CONFIRMED` and `FAILED` are final, `SENT` where nobody is asked."""

    WAITING = "waiting"
    SENDING = "sending"
    SENT = "sent"
    CONFIRMED = "confirmed"
    FAILED = "failed"


class Answer(StrEnum):
    """What came of sending: the worst of all files counts.

    `STORED`: success. `LATER`: the destination was not reached or takes nothing now; nothing was
    stored. `RETRY`: it answered with a failure that may pass. `UNKNOWN`: it may have them or not.
    `REFUSED`: another attempt would be refused too.
    """

    STORED = "stored"
    LATER = "later"
    RETRY = "retry"
    UNKNOWN = "unknown"
    REFUSED = "refused"


class Presence(StrEnum):
    """What a destination says when it is asked for the files; `REPORTED_LATER`: it will tell."""

    PRESENT = "present"
    ABSENT = "absent"
    REPORTED_LATER = "reported later"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Finding:
    """What came of asking a destination for files.

    Attributes:
        presence: Of all files together.
        why: In words, if they are not all there or nothing is known.
        there: SOP Instance UIDs of those that are there, also if others are not.
    """

    presence: Presence
    why: str = ""
    there: tuple[str, ...] = ()


class Step(StrEnum):
    """What is to be done with a delivery next."""

    SEND = "send"
    ASK = "ask"
    NOTHING = "nothing"


_WORST_LAST = (Answer.STORED, Answer.LATER, Answer.RETRY, Answer.UNKNOWN, Answer.REFUSED)


@dataclass(frozen=True)
class FileReply:
    """The answer to one file.

    Attributes:
        sop_instance_uid: Of the file.
        answer: What it means.
        why: In words; empty if there is nothing to say. A warning if it was stored.
    """

    sop_instance_uid: str
    answer: Answer
    why: str = ""


@dataclass(frozen=True)
class Delivery:
    """Files on their way to a destination.

    Attributes:
        key: Of the job whose results they are; with `destination` it names the delivery.
        destination: Name of the destination.
        files: The files; their bytes do not change any more.
        created_s: When it was ordered, in s since 1970.
        due_s: When something is to be done next.
        state: Where it stands.
        attempts: Attempts answered with a failure that may pass.
        checks: Answers "not there" since the files were sent.
        stored: SOP Instance UIDs that were answered with success.
        transaction_uid: Of the storage commitment that is awaited; empty without one.
        why: The last failure in words.
        warnings: What the destination said about files that it stored.
    """

    key: str
    destination: str
    files: tuple[Path, ...]
    created_s: float
    due_s: float = 0.0
    state: State = State.WAITING
    attempts: int = 0
    checks: int = 0
    stored: tuple[str, ...] = field(default=())
    transaction_uid: str = ""
    why: str = ""
    warnings: tuple[str, ...] = field(default=())


def worst_answer(replies: list[FileReply]) -> tuple[Answer, str]:
    """Return what replies to several files mean together, and what failed.

    Args:
        replies: One for each file; none if nothing was left to send.
    """
    answer = max((reply.answer for reply in replies), key=_WORST_LAST.index, default=Answer.STORED)
    failures = [reply.why for reply in replies if reply.answer is not Answer.STORED]
    return answer, "; ".join(dict.fromkeys(failures))


def summarize(what: str, presences: dict[str, Presence]) -> Finding:
    """Return what answers for several files mean together.

    Args:
        what: How they were asked for, such as "C-FIND".
        presences: The answer for each file, by its SOP Instance UID.
    """
    there = tuple(uid for uid, presence in presences.items() if presence is Presence.PRESENT)
    for worst in (Presence.UNKNOWN, Presence.ABSENT):
        if worst in presences.values():
            return Finding(worst, f"{what}: {worst}", there)
    return Finding(Presence.PRESENT, there=there)


def next_step(delivery: Delivery, *, can_ask: bool) -> Step:
    """Return what is to be done once `due_s` has come.

    Args:
        delivery: The delivery.
        can_ask: Whether the destination can be asked for files.
    """
    if delivery.state is State.WAITING:
        return Step.SEND
    if delivery.state is State.SENDING:
        return Step.ASK if can_ask else Step.SEND
    if delivery.state is State.SENT and can_ask:
        return Step.ASK
    return Step.NOTHING


def after_sending(
    delivery: Delivery,
    replies: list[FileReply],
    *,
    policy: RetryPolicy,
    now_s: float,
    jitter: float,
) -> Delivery:
    """Return the delivery after its files were sent, or could not be.

    Args:
        delivery: In `SENDING`.
        replies: The answer to each file that was sent.
        policy: Limits and pauses.
        now_s: Time in s since 1970.
        jitter: Random, in [0, 1).
    """
    answer, why = worst_answer(replies)
    good = [reply for reply in replies if reply.answer is Answer.STORED]
    warnings = dict.fromkeys((*delivery.warnings, *(reply.why for reply in good if reply.why)))
    delivery = replace(
        delivery,
        stored=(*delivery.stored, *(reply.sop_instance_uid for reply in good)),
        warnings=tuple(warnings),
    )
    if answer is Answer.STORED:
        return replace(delivery, state=State.SENT, due_s=now_s, checks=0, why="")
    if answer is Answer.REFUSED:
        return replace(delivery, state=State.FAILED, why=why)
    state = State.SENDING if answer is Answer.UNKNOWN else State.WAITING
    attempts, due_s = delivery.attempts, now_s
    if answer is not Answer.LATER:  # which is a matter of the destination: all its deliveries wait
        attempts += 1
        due_s += pause_s(policy, attempts, jitter)
    delivery = replace(delivery, state=state, attempts=attempts, due_s=due_s, why=why)
    return _within_limits(delivery, policy, now_s)


def after_asking(
    delivery: Delivery, found: Finding, *, policy: RetryPolicy, now_s: float, jitter: float
) -> Delivery:
    """Return the delivery after the destination was asked for its files.

    Args:
        delivery: In `SENDING` (unknown whether they arrived) or `SENT`.
        found: What the destination says.
        policy: Limits and pauses.
        now_s: Time in s since 1970.
        jitter: Random, in [0, 1).
    """
    if found.presence is Presence.PRESENT:
        return replace(delivery, state=State.CONFIRMED, transaction_uid="", why="")
    if found.presence is Presence.REPORTED_LATER:
        return _within_limits(replace(delivery, due_s=now_s + policy.report_s), policy, now_s)
    delivery = replace(delivery, transaction_uid="", why=found.why)
    if found.presence is Presence.UNKNOWN:
        due_s = now_s + pause_s(policy, 1, jitter)
        return _within_limits(replace(delivery, due_s=due_s), policy, now_s)
    if delivery.state is State.SENDING:  # some never arrived: these are sent
        return replace(delivery, state=State.WAITING, stored=found.there, due_s=now_s)
    return _after_absence(delivery, found, policy=policy, now_s=now_s, jitter=jitter)


def pause_s(policy: RetryPolicy, failures: int, jitter: float) -> float:
    """Return how long to wait after a number of failures in a row.

    It doubles up to a limit. Half of it is random, so that destinations that come back are not
    met by everybody at once.

    Args:
        policy: First and longest pause.
        failures: Failures so far.
        jitter: Random, in [0, 1).

    Example:
        >>> [pause_s(RetryPolicy(), failures, 0.5) for failures in (1, 2, 20)]
        [1.5, 3.0, 225.0]
    """
    longest = min(policy.longest_s, policy.first_s * 2.0 ** min(max(failures - 1, 0), 40))
    return longest * (0.5 + jitter / 2)


def _after_absence(
    delivery: Delivery, found: Finding, *, policy: RetryPolicy, now_s: float, jitter: float
) -> Delivery:
    """Ask again, since archives index what they took with a delay; then send again."""
    checks = delivery.checks + 1
    due_s = now_s + pause_s(policy, checks, jitter)
    if checks < policy.max_checks:
        return _within_limits(replace(delivery, checks=checks, due_s=due_s), policy, now_s)
    attempts = delivery.attempts + 1
    delivery = replace(
        delivery, state=State.WAITING, stored=found.there, attempts=attempts, checks=0, due_s=due_s
    )
    return _within_limits(delivery, policy, now_s)


def _within_limits(delivery: Delivery, policy: RetryPolicy, now_s: float) -> Delivery:
    age_s = now_s - delivery.created_s
    sent = "sent, but not confirmed" if delivery.state is State.SENT else "not sent"
    if delivery.attempts >= policy.max_attempts:
        limit = f"{delivery.attempts} attempts"
    elif age_s >= policy.give_up_after_s:
        limit = f"{age_s / 3600:.1f} hours"
    else:
        return delivery
    why = f"{sent} after {limit}: {delivery.why or 'no answer'}"
    return replace(delivery, state=State.FAILED, why=why)
