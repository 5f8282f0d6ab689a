"""Date and time of the DICOM files that this program writes."""

import re
from datetime import UTC, datetime
from typing import Any, Literal

# Times of an image, the most exact first.
_KEYWORDS = ("Content", "Acquisition", "Series", "Study")
_DATE = re.compile(r"[12]\d{3}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])")
_TIME = re.compile(r"([01]\d|2[0-3])([0-5]\d){2}")
# For an image without a date: DICOM requires one, and this one is clearly not real.
_UNKNOWN = ("19700101", "000000")


def read_moment(moment: datetime | Literal["now", "source"], header: Any) -> tuple[str, str]:
    """Return a moment as DICOM's date and time.

    Args:
        moment: A moment; "now"; or "source" for the image's own, the start of 1970 if it has none.
        header: The image's dataset.

    Returns:
        YYYYMMDD and HHMMSS; local time for "now", the image's time for "source", and the moment's
        own zone otherwise.

    Example:
        >>> read_moment(datetime(2026, 11, 24, 17, 7, 45, tzinfo=UTC), None)
        ('20261124', '170745')
    """
    if moment == "source":
        return next(filter(None, (_read(header, word) for word in _KEYWORDS)), _UNKNOWN)
    if moment == "now":
        moment = datetime.now(tz=UTC).astimezone()
    return moment.strftime("%Y%m%d"), moment.strftime("%H%M%S")


def _read(header: Any, word: str) -> tuple[str, str] | None:
    """Return one date with its time, if the date is valid."""
    day = _DATE.fullmatch(str(header.get(f"{word}Date") or "").strip())
    clock = _TIME.match(str(header.get(f"{word}Time") or "").strip())
    return (day[0], clock[0] if clock else _UNKNOWN[1]) if day else None
