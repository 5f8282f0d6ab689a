"""Patients into training, validation and test: no patient on two sides, ever."""

from collections.abc import Iterable, Mapping

import numpy as np

from bedside.errors import SplitError

PARTS = ("train", "val", "test")


def split_patients(
    patients: Iterable[str], *, fractions: tuple[float, float, float], seed: int
) -> dict[str, tuple[str, ...]]:
    """Share patients out at random, but always in the same way for the same seed.

    Args:
        patients: Patient ids; repeats count once.
        fractions: Shares of training, validation and test, summing to 1.
        seed: Seed of the shuffle.

    Returns:
        Sorted patient ids for "train", "val" and "test".

    Raises:
        SplitError: If the fractions do not sum to 1, or a part with a share gets nobody.

    Example:
        >>> parts = split_patients("abcdefghij", fractions=(0.7, 0.1, 0.2), seed=0)
        >>> [len(part) for part in parts.values()]
        [7, 1, 2]
    """
    unique = sorted(set(patients))
    if min(fractions) < 0 or abs(sum(fractions) - 1) > 1e-6:
        raise SplitError(f"split is {fractions}; shares must not be negative and sum to 1.")
    order = np.random.default_rng(seed).permutation(len(unique))
    ends = np.rint(np.cumsum([0.0, *fractions]) * len(unique)).astype(int)
    split = {}
    for part, share, begin, end in zip(PARTS, fractions, ends, ends[1:], strict=False):
        if share > 0 and begin == end:
            raise SplitError(f'{len(unique)} patients are too few for the part "{part}".')
        split[part] = tuple(sorted(unique[index] for index in order[begin:end]))
    check_split(split)
    return split


def check_split(split: Mapping[str, Iterable[str]]) -> None:
    """Make sure that no patient stands in two parts.

    Raises:
        SplitError: If one does; it is named.
    """
    home: dict[str, str] = {}
    for part, patients in split.items():
        for patient in patients:
            if home.setdefault(patient, part) != part:
                raise SplitError(
                    f'patient "{patient}" is in both "{home[patient]}" and "{part}": '
                    "the split leaks. Give every patient one part."
                )
