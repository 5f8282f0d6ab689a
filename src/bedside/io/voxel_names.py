"""The files that a header names for its voxels: a list, or a pattern with a number."""

import re
from collections.abc import Sequence
from pathlib import Path

from bedside.errors import FormatError
from bedside.io.voxel_file import find_beside

# The conversions of whole numbers that C's printf and Python agree on.
_NUMBER = re.compile(r"%0?[0-9]{0,2}[diu]")


def find_listed(path: Path, names: Sequence[str], *, count: int) -> list[Path]:
    """Return the files of a list, beside their header.

    Args:
        path: The header's file.
        names: The names in the list.
        count: How many there must be.

    Raises:
        FormatError: If their number is wrong, or one is elsewhere or missing.
    """
    listed = [name.strip() for name in names if name.strip()]
    if len(listed) != count:
        raise FormatError(
            f"{path} lists {len(listed)} files of voxels; its sizes need {count}. "
            "Correct whichever is wrong."
        )
    return [find_beside(path, name) for name in listed]


def expand_pattern(path: Path, text: str, *, count: int) -> list[Path]:
    """Return the files of a pattern such as "slice%03d.raw 0 19 1", beside their header.

    Args:
        path: The header's file.
        text: Pattern, first number, last number and step; by default 1, `count` and 1.
        count: How many files there must be.

    Raises:
        FormatError: If it is not such a pattern, the number of names is wrong, or a file is
            elsewhere or missing.
    """
    pattern, *words = text.split()
    if len(words) > 3 or not all(re.fullmatch(r"-?[0-9]{1,9}", word) for word in words):
        raise FormatError(
            f"{path} names the voxels {text[:80]!r}; expected a pattern and three whole numbers, "
            'such as "slice%03d.raw 0 19 1".'
        )
    first, last, step = (*map(int, words), *(1, count, 1)[len(words) :])
    if len(_NUMBER.findall(pattern)) != 1 or pattern.count("%") != 1 or step == 0:
        raise FormatError(
            f"{path} names the voxels {text[:80]!r}; expected one number, such as %03d, in the "
            "pattern, and a step other than 0."
        )
    numbers = range(first, last + (1 if step > 0 else -1), step)
    if len(numbers) != count:
        raise FormatError(
            f"{path} names the voxels {text[:80]!r}, {len(numbers)} files; its sizes need {count}."
        )
    return [find_beside(path, pattern % number) for number in numbers]
