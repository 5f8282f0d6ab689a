"""`dataset.json`, the index of the Decathlon and of nnU-Net, read strictly."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bedside.errors import DataError
from bedside.system.regular_files import read_regular

INDEX = "dataset.json"


def read_index(path: Path) -> Mapping[str, Any]:
    """Read the index of a data set.

    Args:
        path: The data set's folder.

    Raises:
        DataError: If it is not a JSON object.
    """
    try:
        index = json.loads(read_regular(path / INDEX))
    except (OSError, ValueError) as error:
        raise DataError(f"{path / INDEX} cannot be read as JSON: {error}.") from error
    if not isinstance(index, dict):
        raise DataError(f"{path / INDEX} is not a JSON object, but {index!r:.60}.")
    return index


def has_key(path: Path, key: str) -> bool:
    """Whether a folder has an index with a key; False if it cannot be read."""
    try:
        return key in read_index(path)
    except DataError:
        return False


def table_of_values(values: Any, path: Path) -> Mapping[int, int]:
    """Return the table of label values, in which each value is its own label.

    Args:
        values: Whole numbers from 0 on, numbers or their text.
        path: The data set's folder, for the error.

    Raises:
        DataError: If one is not a whole number, or the background, 0, is not among them.
    """
    try:
        numbers = sorted({int(value) for value in values})
    except (TypeError, ValueError):
        numbers = []
    if not numbers or numbers[0] != 0 or numbers[-1] > 255:
        raise DataError(
            f'{path / INDEX} has "labels" with the values {list(values)}; expected whole '
            "numbers from 0, the background, to at most 255."
        )
    return {number: number for number in numbers}


def names_of_channels(channels: Any, path: Path, *, key: str = "modality") -> tuple[str, ...]:
    """Return the names of the channels, in order.

    Args:
        channels: Names by number from 0 on, numbers as text.
        path: The data set's folder, for the error.
        key: Of the index, for the error.

    Raises:
        DataError: If the numbers are not 0, 1, 2, ...
    """
    if not isinstance(channels, dict) or set(channels) != set(map(str, range(len(channels)))):
        raise DataError(f'{path / INDEX} has "{key}" {channels}; expected "0", "1", ...')
    return tuple(str(channels[str(number)]) for number in range(len(channels)))


def names_of_values(labels: Any) -> Mapping[int, str]:
    """Return the name of each label value but 0.

    Args:
        labels: Names by value, as the Decathlon has it, or values by name, as nnU-Net has it.

    Example:
        >>> names_of_values({"0": "background", "1": "edema"}), names_of_values({"core": 1})
        ({1: 'edema'}, {1: 'core'})
    """
    names = {}
    for key, value in (labels if isinstance(labels, dict) else {}).items():
        number, name = (key, value) if str(key).isdecimal() else (value, key)
        if str(number).isdecimal() and int(number) and isinstance(name, str) and name:
            names[int(number)] = name
    return names
