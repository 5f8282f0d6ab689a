"""Times of the frames of a DICOM cine, used only if plausible."""

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pydicom.datadict import keyword_for_tag

from bedside.io.dicom.files import read_decimals

# Limits: ultrafast scanners, and the slowest playback.
_SHORTEST_MS, _LONGEST_MS = 0.1, 60_000.0
# Relative difference of even steps.
_EVEN = 1e-3
_LEAST_ABSOLUTE = 5
_SECOND_MS = 1000.0
_DATE_TIME = re.compile(r"(\d{8})(\d{2})(\d{2})(\d{2})(\.\d{1,6})?(?:([+-])(\d{2})(\d{2}))?")
_TIME = re.compile(r"(\d{2}):?(\d{2}):?(\d{2})(\.\d{1,6})?")


@dataclass(frozen=True)
class FrameTimes:
    """Times of frames.

    Attributes:
        step_ms: Mean time from one frame to the next; None if unknown.
        starts_ms: Start of each frame if they are uneven; else None.
        warnings: What was not used, in sentences for the user.
    """

    step_ms: float | None = None
    starts_ms: tuple[float, ...] | None = None
    warnings: tuple[str, ...] = ()


def read_frame_times(dataset: Any, frames: int) -> FrameTimes:
    """Return the times of the frames of a file.

    FrameIncrementPointer selects FrameTimeVector or FrameTime; without it the vector counts.
    Display rates are used if neither is plausible.

    Args:
        dataset: A header.
        frames: How many there are.

    Source:
        DICOM PS3.3 C.7.6.5.1.1 and 2.
    """
    warnings: list[str] = []
    readers = [_read_vector, _read_step]
    if _read_increment_pointer(dataset) == "FrameTime":
        readers.reverse()
    for read in (*readers, _read_rates):
        times = read(dataset, frames, warnings)
        if times is not None:
            return FrameTimes(times.step_ms, times.starts_ms, tuple(warnings))
    return FrameTimes(warnings=tuple(warnings))


def times_from_steps(steps_ms: Sequence[float]) -> FrameTimes:
    """Return the times for steps from frame to frame, all above 0.

    Example:
        >>> times_from_steps([30.0, 50.0])
        FrameTimes(step_ms=40.0, starts_ms=(0.0, 30.0, 80.0), warnings=())
        >>> times_from_steps([40.0, 40.0])
        FrameTimes(step_ms=40.0, starts_ms=None, warnings=())
    """
    mean_ms = sum(steps_ms) / len(steps_ms)
    if max(steps_ms) - min(steps_ms) <= _EVEN * mean_ms:
        return FrameTimes(mean_ms)
    return FrameTimes(mean_ms, tuple(itertools.accumulate(steps_ms, initial=0.0)))


def is_plausible(step_ms: float) -> bool:
    """Whether a time from frame to frame is plausible."""
    return _SHORTEST_MS <= step_ms <= _LONGEST_MS


def read_clock_ms(date_time: str) -> float | None:
    """Return a DICOM date and time, YYYYMMDDHHMMSS.FFFFFF&ZZXX, in ms from a fixed moment.

    Example:
        >>> read_clock_ms("20260101101010.040") - read_clock_ms("20260101101010")
        40.0
    """
    parts = _DATE_TIME.fullmatch(date_time.strip())
    if parts is None:
        return None
    day, hour, minute, second, fraction, sign, zone_h, zone_min = parts.groups()
    try:
        moment = datetime.strptime(day + hour + minute, "%Y%m%d%H%M")
    except ValueError:
        return None
    # Both in the file's time zone.
    since = moment - datetime(1970, 1, 1)
    zone = timedelta(hours=int(zone_h or 0), minutes=int(zone_min or 0))
    since -= -zone if sign == "-" else zone
    # Whole microseconds, for exact differences.
    micro = (int(second) * 10**6) + round(float(fraction or 0) * 10**6)
    return (since // timedelta(milliseconds=1)) + micro / 1000


def read_moment_ms(dataset: Any, word: str) -> float | None:
    """Return a time, such as "Acquisition", in ms from a fixed moment.

    Times of one day can be compared without a date.
    """
    combined = read_clock_ms(str(dataset.get(f"{word}DateTime") or ""))
    if combined is not None:
        return combined
    time = _TIME.fullmatch(str(dataset.get(f"{word}Time") or "").strip())
    if time is None:
        return None
    day = str(dataset.get(f"{word}Date") or "").strip().replace(".", "") or "19700101"
    return read_clock_ms(f"{day}{time[1]}{time[2]}{time[3]}{time[4] or ''}")


def _read_increment_pointer(dataset: Any) -> str:
    """Return the attribute that FrameIncrementPointer names."""
    pointer = dataset.get("FrameIncrementPointer")
    tags = pointer if isinstance(pointer, Sequence) and not isinstance(pointer, str) else [pointer]
    try:
        return keyword_for_tag(tags[0]) if tags and tags[0] is not None else ""
    except (TypeError, ValueError, OverflowError):
        return ""


def _read_vector(dataset: Any, frames: int, warnings: list[str]) -> FrameTimes | None:
    """Return FrameTimeVector; None, with a warning, if it is not plausible."""
    if frames < 2 or dataset.get("FrameTimeVector") in (None, ""):
        return None
    try:
        vector = read_decimals(dataset, "FrameTimeVector")
    except (TypeError, ValueError):
        vector = [math.nan]
    reason = ""
    steps = vector[1:]
    if len(vector) != frames:
        reason = f"has {len(vector)} times for {frames} frames"
    elif not all(map(math.isfinite, vector)):
        reason = "holds text that is not a number"
    elif _is_absolute(vector):
        warnings.append("FrameTimeVector was taken as times from the first frame, not as steps")
        steps = [later - earlier for earlier, later in itertools.pairwise(vector)]
    elif min(steps) <= 0:
        reason = f"has a step of {min(steps):g} ms"
    if not reason and not is_plausible(sum(steps) / len(steps)):
        reason = f"has a mean step of {sum(steps) / len(steps):g} ms"
    if reason:
        warnings.append(f"FrameTimeVector {reason}, and was not used")
        return None
    return times_from_steps(steps)


def _is_absolute(vector: Sequence[float]) -> bool:
    """Whether times count from the first frame: they grow by equal steps."""
    steps = [later - earlier for earlier, later in itertools.pairwise(vector)]
    grows = len(vector) >= _LEAST_ABSOLUTE and vector[0] == 0 and min(steps) > 0
    return grows and max(steps) <= 2 * min(steps)


def _read_step(dataset: Any, frames: int, warnings: list[str]) -> FrameTimes | None:
    """Return FrameTime; None, with a warning, if it is not plausible."""
    step_ms = _read_number(dataset, "FrameTime")
    if step_ms is None or is_plausible(step_ms):
        return None if step_ms is None else FrameTimes(step_ms)
    if frames > 1:
        warnings.append(f"FrameTime is {step_ms:g} ms, which cannot be meant, and was not used")
    return None


def _read_rates(dataset: Any, frames: int, warnings: list[str]) -> FrameTimes | None:
    """Return times by the recommended display rate."""
    for keyword in ("CineRate", "RecommendedDisplayFrameRate"):
        rate = _read_number(dataset, keyword)
        if rate is None:
            continue
        if rate > 0 and is_plausible(_SECOND_MS / rate):
            return FrameTimes(_SECOND_MS / rate)
        if frames > 1:
            warnings.append(f"{keyword} is {rate:g} a second, and was not used")
    return None


def _read_number(dataset: Any, keyword: str) -> float | None:
    """Return one number; NaN if it is malformed, None if it is missing."""
    value = dataset.get(keyword)
    if value in (None, ""):
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan
