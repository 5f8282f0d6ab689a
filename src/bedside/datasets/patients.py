"""Names of patients that differ in spelling only."""

import unicodedata
from collections.abc import Sequence
from dataclasses import replace

from bedside.datasets.case import Case


def unite_spellings(cases: Sequence[Case]) -> list[Case]:
    """Return cases in which a patient has one name.

    Two machines write `P01` and `p01`, and one file system stores an accent as a letter of its
    own: taken for two patients, one person would be in training and test.

    Args:
        cases: The cases of a data set.

    Returns:
        The same cases; names that are equal but for case, accents' storage and blanks around them
        become the first of them in order of letters.

    Example:
        >>> from pathlib import Path
        >>> names = ("p01", "P01", "p02")
        >>> cases = [Case(name, name, (Path("a.png"),), Path("b.png")) for name in names]
        >>> [case.patient_id for case in unite_spellings(cases)]
        ['P01', 'P01', 'p02']
    """
    chosen: dict[str, str] = {}
    for name in sorted({case.patient_id for case in cases}):
        chosen.setdefault(_fold(name), name)
    return [replace(case, patient_id=chosen[_fold(case.patient_id)]) for case in cases]


def _fold(name: str) -> str:
    """Return a name without what is spelling only."""
    return unicodedata.normalize("NFC", name).casefold().strip()
