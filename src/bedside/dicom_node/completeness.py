"""When a series is complete: by what is known, not by waiting, where anything is known.

The first of these that holds:

1. its header names a number of images for the series, and they are there;
2. its associations have ended, and its sender counts as many images as there are;
3. its associations have ended, and its header names as many images for the acquisitions that came;
4. its associations were released, every image is a film or volume that is whole by itself, and
   the header names no number;
5. its associations have ended, and no image came for `settle_s`, or three times as long if the
   header names more images than there are.

A series whose sender counts more images than there are is never taken as complete: after
`missing_s` without an image it fails.
"""

import math
from dataclasses import dataclass
from enum import StrEnum

_LONGER = 3.0
_ASK_AGAIN_S = 5.0


class Step(StrEnum):
    """What is to be done with a series."""

    WAIT = "wait"
    ASK = "ask its sender"
    COMPLETE = "complete"
    FAIL = "fail"


@dataclass(frozen=True)
class Known:
    """What is known of a series that is being received.

    Attributes:
        images: How many are there.
        named: How many the header names; None if it names none.
        is_named_whole: Whether that is for the series, not for each acquisition seen so far.
        are_whole: Whether each has several frames, and so is an image by itself.
        is_open: Whether an association that brought an image goes on.
        is_released: Whether the last one was released, not broken off.
        idle_s: Seconds since the last image, or the end of the last association.
        can_ask: Whether there is somebody who counts.
        counted: What the sender has counted; None if it was not asked, or has no answer.
        asked_s: Seconds since it was asked; infinite if it was not, since the last image.
    """

    images: int
    named: int | None = None
    is_named_whole: bool = True
    are_whole: bool = False
    is_open: bool = False
    is_released: bool = True
    idle_s: float = 0.0
    can_ask: bool = False
    counted: int | None = None
    asked_s: float = math.inf


@dataclass(frozen=True)
class Verdict:
    """What is to be done with a series, and why.

    Attributes:
        step: What.
        why: For people; empty while it waits.
        wait_s: Seconds until this is to be decided again, if nothing changes.
    """

    step: Step
    why: str = ""
    wait_s: float = math.inf


def decide(known: Known, *, settle_s: float, missing_s: float) -> Verdict:
    """Return what is to be done with a series.

    Args:
        known: What is known of it.
        settle_s: Seconds of silence after which it is complete, if nobody knows more.
        missing_s: Seconds of silence after which it fails, if its sender has more.

    Example:
        >>> decide(Known(images=30, named=30, is_open=True), settle_s=10, missing_s=600).why
        'the header names 30 images'
    """
    images = known.images
    is_reached = known.named is not None and images >= known.named
    if is_reached and known.is_named_whole:
        return Verdict(Step.COMPLETE, f"the header names {_count(images)}")
    if known.is_open:
        return Verdict(Step.WAIT)
    if known.can_ask and known.asked_s == math.inf:
        return Verdict(Step.ASK)
    if known.counted == images:
        return Verdict(Step.COMPLETE, f"its sender counts {_count(images)}")
    if known.counted is not None and known.counted > images:
        return _await_missing(known, missing_s)
    if is_reached:
        return Verdict(Step.COMPLETE, f"its acquisitions have {_count(images)}")
    if known.are_whole and known.is_released and known.named is None:
        return Verdict(Step.COMPLETE, f"{_count(images)}, each with all its frames")
    return _settle(known, settle_s)


def _await_missing(known: Known, missing_s: float) -> Verdict:
    if known.idle_s >= missing_s:
        why = f"{known.images} of {known.counted} images came; send the series again"
        return Verdict(Step.FAIL, why)
    if known.asked_s >= _ASK_AGAIN_S:
        return Verdict(Step.ASK)
    return Verdict(Step.WAIT, wait_s=min(missing_s - known.idle_s, _ASK_AGAIN_S - known.asked_s))


def _settle(known: Known, settle_s: float) -> Verdict:
    wait_s = settle_s * (1 if known.named is None else _LONGER)
    if known.idle_s < wait_s:
        return Verdict(Step.WAIT, wait_s=wait_s - known.idle_s)
    why = f"no image for {wait_s:g} s after {_count(known.images)}"
    if known.named is not None:
        why += f", although the header names {known.named}"
    return Verdict(Step.COMPLETE, why)


def _count(images: int) -> str:
    return f"{images} image" if images == 1 else f"{images} images"
