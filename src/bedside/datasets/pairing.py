"""Files of a case found by their names."""

from collections.abc import Iterable
from pathlib import Path

from bedside.errors import DataError

NIFTI = (".nii.gz", ".nii")
"""Endings of a NIfTI file; the first is what a missing one is called."""


def find_file(stem: Path, what: str, *, case: str, endings: Iterable[str] = NIFTI) -> Path:
    """Return the file of a stem with one of several endings.

    Args:
        stem: Folder and name without ending.
        what: What the file holds, for the error: "image", "labels", "channel t1".
        case: Name of the case, for the error.
        endings: Endings in order of preference.

    Raises:
        DataError: If there is none.
    """
    choices = [stem.with_name(stem.name + ending) for ending in endings]
    for path in choices:
        if path.is_file():
            return path
    raise DataError(
        f"case {case} has no {what}: {choices[0]} is missing. Restore it, or leave {case} out."
    )


def split_ending(name: str, endings: Iterable[str] = NIFTI) -> tuple[str, str] | None:
    """Split a file name into stem and ending; None for another ending or a hidden file.

    Example:
        >>> split_ending("patient001_frame01.nii.gz")
        ('patient001_frame01', '.nii.gz')
    """
    if name.startswith("."):
        return None
    ending = next((end for end in endings if name.lower().endswith(end)), None)
    return None if ending is None else (name[: -len(ending)], name[-len(ending) :])


def list_folders(path: Path) -> list[Path]:
    """List the folders in a folder in order, without hidden ones."""
    return sorted(
        entry for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith(".")
    )


def list_stems(folder: Path, endings: Iterable[str] = NIFTI) -> list[str]:
    """List the stems of a folder's files of some endings, in order, each once."""
    parted = (split_ending(entry.name, tuple(endings)) for entry in folder.iterdir())
    return sorted({stem for stem, _ in filter(None, parted)})
