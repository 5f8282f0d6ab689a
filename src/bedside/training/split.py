"""Split of patients into training, validation and test."""

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from bedside.errors import SplitError
from bedside.spec import DataSpec

PARTS = ("train", "val", "test")
# Separate random draws of one split seed: patients, folds, fraction.
_FOLDS, _FRACTION = 1, 2


def split_cases(patients: Iterable[str], spec: DataSpec) -> dict[str, tuple[str, ...]]:
    """Split patients by the settings of a data set.

    Args:
        patients: Patient ids; repeats count once.
        spec: Shares, seed, and whether neighbours stay together, folds are cut, or a part
            of the training patients is left out.

    Returns:
        Sorted patient ids for "train", "val" and "test".

    Raises:
        SplitError: If a part with a share is empty.
    """
    units = list_units(patients, blocks=spec.split_blocks if spec.split_by == "blocks" else None)
    names = list(units)
    split = split_patients(names, fractions=spec.split, seed=spec.split_seed)
    if spec.folds:
        split = cut_fold(split, spec)
    parts = {
        part: tuple(sorted(patient for unit in chosen for patient in units[unit]))
        for part, chosen in split.items()
    }
    if spec.train_fraction < 1:
        parts["train"] = thin_out(
            parts["train"], fraction=spec.train_fraction, seed=spec.split_seed
        )
    check_split(parts)
    return parts


def list_units(patients: Iterable[str], *, blocks: int | None) -> dict[str, list[str]]:
    """Groups of patients that must not be separated: single ones, or neighbours by id.

    Args:
        patients: Patient ids; repeats count once.
        blocks: How many runs of neighbours to cut them into; None to keep all apart.

    Returns:
        Name of each unit, and its patients.

    Raises:
        SplitError: If there are fewer patients than blocks.

    Example:
        >>> list_units(["s10", "s9", "s1", "s2"], blocks=2)
        {'block 0': ['s1', 's2'], 'block 1': ['s9', 's10']}
    """
    ordered = sorted(set(patients), key=_by_number)
    if blocks is None:
        return {patient: [patient] for patient in ordered}
    if len(ordered) < blocks:
        raise SplitError(f"{len(ordered)} patients cannot be cut into {blocks} blocks.")
    ends = np.rint(np.linspace(0, len(ordered), blocks + 1)).astype(int).tolist()
    return {
        f"block {index}": ordered[begin:end]
        for index, (begin, end) in enumerate(itertools.pairwise(ends))
    }


def split_patients(
    patients: Iterable[str], *, fractions: tuple[float, float, float], seed: int
) -> dict[str, tuple[str, ...]]:
    """Split patients at random, reproducibly for a seed.

    Args:
        patients: Patient ids; repeats count once.
        fractions: Shares of training, validation and test, summing to 1.
        seed: Seed of the shuffle.

    Returns:
        Sorted patient ids for "train", "val" and "test".

    Raises:
        SplitError: If the fractions do not sum to 1, or a part with a share is empty.

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


def cut_fold(split: Mapping[str, Sequence[str]], spec: DataSpec) -> dict[str, tuple[str, ...]]:
    """Split of one fold: another part of the patients outside the test set validates.

    Args:
        split: "train", "val" and "test" without folds.
        spec: How many folds, and which one.

    Returns:
        "train" and "val" of the fold, and the same "test". Over all folds, everybody who
        is not in "test" is in "val" once.

    Raises:
        SplitError: If there are fewer than one a fold.
    """
    known = sorted([*split["train"], *split["val"]])
    if len(known) < spec.folds:
        raise SplitError(f"{len(known)} patients or blocks are too few for {spec.folds} folds.")
    order = np.random.default_rng((spec.split_seed, _FOLDS)).permutation(len(known))
    chosen = {known[index] for index in order[spec.fold :: spec.folds].tolist()}
    return {
        "train": tuple(name for name in known if name not in chosen),
        "val": tuple(name for name in known if name in chosen),
        "test": tuple(split["test"]),
    }


def thin_out(patients: Sequence[str], *, fraction: float, seed: int) -> tuple[str, ...]:
    """Keep a part of the patients, at least one; a smaller part is within a larger one."""
    order = np.random.default_rng((seed, _FRACTION)).permutation(len(patients)).tolist()
    count = max(1, round(fraction * len(patients)))
    return tuple(patients[index] for index in sorted(order[:count]))


def keep_together(
    split: Mapping[str, Sequence[str]], pairs: Iterable[tuple[str, str]]
) -> dict[str, tuple[str, ...]]:
    """Move patients that belong together into one part, the first one that has any of them.

    So nobody gets into the test part, and everybody else stays where they were.

    Args:
        split: Patients of "train", "val" and "test".
        pairs: Patients that must not be separated, such as those with an image in common;
            whoever is in no part is left out.

    Raises:
        SplitError: If a part is empty then.

    Example:
        >>> keep_together({"train": ["a"], "val": ["b"], "test": ["c", "d"]}, [("d", "a")])
        {'train': ('a', 'd'), 'val': ('b',), 'test': ('c',)}
    """
    home = {patient: rank for rank, part in enumerate(split) for patient in split[part]}
    linked = [pair for pair in pairs if pair[0] in home and pair[1] in home]
    while moved := [pair for pair in linked if home[pair[0]] != home[pair[1]]]:
        for one, other in moved:
            home[one] = home[other] = min(home[one], home[other])
    parts = {
        part: tuple(sorted(patient for patient, where in home.items() if where == rank))
        for rank, part in enumerate(split)
    }
    for part in parts:
        if split[part] and not parts[part]:
            raise SplitError(
                f'all patients of the part "{part}" share images with patients of another one. '
                "Remove the copies from the data set."
            )
    return parts


def check_split(split: Mapping[str, Iterable[str]]) -> None:
    """Check that no patient is in two parts.

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


def _by_number(name: str) -> list[tuple[int, str]]:
    """Sort key of names in natural order: p2 before p10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]
