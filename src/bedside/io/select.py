"""Which time, channel or stack of a file that has several: `time=3`, counted from 1."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from bedside.errors import FormatError, UsageError

AXES = ("time", "channel", "stack")
"""What an axis beyond those in space can be called."""


def parse_selection(words: Sequence[str]) -> dict[str, int]:
    """Read words such as "time=3".

    Args:
        words: Each an axis and a place on it, counted from 1.

    Raises:
        UsageError: If one is of another form, or an axis is named twice.

    Example:
        >>> parse_selection(["time=3"])
        {'time': 3}
    """
    selection: dict[str, int] = {}
    for word in words:
        axis, _, place = word.partition("=")
        if axis not in AXES or not place.isdecimal() or int(place) < 1 or axis in selection:
            raise UsageError(
                f'--select has "{word}"; expected time=N, channel=N or stack=N, each once, from 1.'
            )
        selection[axis] = int(place)
    return selection


def choose_place(select: Mapping[str, int] | None, axes: Mapping[str, int], path: Path) -> int:
    """Find the one of several grids in a file that is meant.

    A file with one further axis is content with either word, since its header seldom tells
    times from channels.

    Args:
        select: What was asked for, by axis, counted from 1.
        axes: Names and lengths of the file's further axes, fastest first.
        path: The file, for errors.

    Returns:
        Its place in the file, counted from 0.

    Raises:
        FormatError: If an axis is longer than 1 and nothing is chosen, or something is chosen
            that is not there.

    Example:
        >>> choose_place({"time": 3}, {"time or channel": 10}, Path("a.nii"))
        2
    """
    select = dict(select or {})
    place, step = 0, 1
    several = {name: length for name, length in axes.items() if length > 1}
    for name, length in several.items():
        asked = [word for word in select if len(several) == 1 or word == name]
        if len(asked) != 1:
            counts = " and ".join(f"{count} of {what}" for what, count in several.items())
            words = " ".join(f"{what.split()[0]}=N" for what in several)
            raise FormatError(
                f"{path} holds several images ({counts}); name one: --select {words}, N from 1."
            )
        number = select.pop(asked[0])
        if number > length:
            raise FormatError(f"{path} has {length} of {name}; --select asks for number {number}.")
        place += (number - 1) * step
        step *= length
    if any(number != 1 for number in select.values()):
        words = " ".join(f"{axis}={number}" for axis, number in select.items())
        raise FormatError(f"{path} is a single image; --select {words} names none in it.")
    return place
