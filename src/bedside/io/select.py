"""Selection of a time, channel or stack in a file: `time=3`, counted from 1."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from bedside.errors import FormatError, UsageError

AXES = ("time", "channel", "stack")
"""Names of axes that are not in space."""


def parse_selection(words: Sequence[str]) -> dict[str, int]:
    """Return the selection in words such as "time=3".

    Args:
        words: Each an axis and an index, counted from 1.

    Raises:
        UsageError: If one is malformed, or an axis occurs twice.

    Example:
        >>> parse_selection(["time=3"])
        {'time': 3}
    """
    selection: dict[str, int] = {}
    for word in words:
        axis, _, place = word.partition("=")
        if axis not in AXES or not place.isdecimal() or int(place) < 1 or axis in selection:
            raise UsageError(
                f'--select has "{word}"; expected time=N, channel=N or stack=N, each once, from 1, '
                "after the names of images."
            )
        selection[axis] = int(place)
    return selection


def choose_place(select: Mapping[str, int] | None, axes: Mapping[str, int], path: Path) -> int:
    """Return the index of the selected grid in a file.

    A file with one further axis accepts any axis name, since headers seldom tell times from
    channels.

    Args:
        select: The selected index by axis, counted from 1.
        axes: Names and lengths of the file's further axes, fastest first.
        path: The file, for errors.

    Returns:
        The index in the file, counted from 0.

    Raises:
        FormatError: If an axis is longer than 1 and nothing is selected, or the selection does
            not exist.

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
