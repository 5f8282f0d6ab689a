"""Values in the masks of a data set, and the labels that they become."""

from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import numpy as np

from bedside.datasets import Case, read_values
from bedside.datasets.palettes import check_palettes
from bedside.errors import DataError

MOST_MASKS = 1000
"""Masks that are read; a value that none of them has is refused in the training."""

LARGEST_LABEL = 254
"""Labels are kept in 8 bits."""

# More values than this with gaps between them are the soft edges of a mask saved as a picture.
_MOST_WITH_GAPS = 20


def read_values_held(cases: Sequence[Case]) -> dict[str, list[int]]:
    """Read which values the mask of each case holds.

    Args:
        cases: At least one; of many, some spread evenly are read.

    Returns:
        Values by case, 0 included: those of the layout's own table of labels where it has one,
        else those of the files.

    Raises:
        DataError: If a mask holds no whole numbers, or is a colour picture; it is named. If
            palettes of masks number their colours differently.
        FormatError: If a mask cannot be read.
    """
    chosen = spread(cases, MOST_MASKS)
    check_palettes(chosen)
    with ThreadPoolExecutor(max_workers=4) as pool:
        return dict(zip((case.case_id for case in chosen), pool.map(_values, chosen), strict=True))


def count_values(held: Mapping[str, Sequence[int]]) -> Counter[int]:
    """Return in how many masks each value occurs.

    Args:
        held: Values in each case's mask.

    Example:
        >>> dict(count_values({"a": [0, 1], "b": [0]}))
        {0: 2, 1: 1}
    """
    return Counter(chain.from_iterable(held.values()))


def choose_relabel(counts: Mapping[int, int], *, where: str) -> dict[int, int]:
    """Return labels for mask values that are not 1, 2, 3, ...

    Args:
        counts: Number of masks by value.
        where: The data set, for the error.

    Returns:
        Label for each value that is none itself; empty where values are labels.

    Raises:
        DataError: If there is nothing but background, or so many values that they are the
            soft edges of a picture.

    Example:
        >>> choose_relabel({0: 12, 255: 12}, where="data")
        {255: 1}
        >>> choose_relabel({0: 12, 1: 12, 2: 3}, where="data")
        {}
    """
    values = sorted(value for value in counts if value != 0)
    if not values:
        raise DataError(
            f"the masks of {where} hold nothing but 0, the background. Check that they are "
            "masks, and that their values were not lost when they were saved."
        )
    table = {value: label for label, value in enumerate(values, 1) if value != label}
    if len(values) > LARGEST_LABEL or (table and len(values) > _MOST_WITH_GAPS):
        raise DataError(
            f"the masks of {where} hold {len(values)} values, from {values[0]} to {values[-1]}: "
            "they look like pictures with soft edges. Save each pixel as the number of its "
            "label, as PNG and without scaling or smoothing; for one structure, threshold at 128."
        )
    return table


def spread(cases: Sequence[Case], count: int) -> list[Case]:
    """Return a number of items, spread evenly over a list.

    Example:
        >>> spread("abcdefg", 3)
        ['a', 'd', 'g']
    """
    count = min(count, len(cases))
    return [cases[index] for index in np.linspace(0, len(cases) - 1, count).round().astype(int)]


def _values(case: Case) -> list[int]:
    """List the values of one mask."""
    found = np.unique(read_values(case))
    strange = found[~((found >= 0) & (found == np.floor(found)))]
    if strange.size:
        raise DataError(
            f"case {case.case_id}: {case.truth} holds the value {strange[0]:.9g}; expected whole "
            "numbers from 0 up. Save each pixel as the number of its label."
        )
    values = [int(value) for value in found]
    table = case.truth_values
    return values if table is None else sorted({table.get(value, value) for value in values})
