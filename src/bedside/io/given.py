"""Images given as a path, bytes, an open file or pydicom Datasets."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias, cast

from bedside.errors import UsageError
from bedside.system.regular_files import MemoryPath

if TYPE_CHECKING:
    from pydicom import Dataset

Given: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | Dataset"
"""One file: its path, its bytes, an open binary file, or its pydicom Dataset."""

BYTES_GIVEN = "the bytes given"
"""What errors call bytes without a name."""


class DatasetPath(MemoryPath):
    """A pydicom Dataset named by its SOPInstanceUID, for readers that take a path."""

    dataset: Any = None

    def is_file(self, **_: Any) -> bool:
        """Whether it holds a Dataset."""
        return self.dataset is not None


def name_given(given: "Given | Sequence[Given]") -> tuple[Path, tuple[Path, ...]]:
    """Return paths for what is given, as readers take them.

    Args:
        given: One file, or the files of one DICOM series.

    Returns:
        The path of the file, or a name for the series, and the files of the series.

    Raises:
        UsageError: If it is something else.
    """
    if not isinstance(given, list | tuple):
        return _name(cast("Given", given), ""), ()
    if not given:
        raise UsageError("no image is given: the list of files is empty.")
    count = len(given)
    paths = [_name(each, f" ({n} of {count})") for n, each in enumerate(given, start=1)]
    if count == 1:
        return paths[0], ()
    return MemoryPath(f"the {count} files given"), tuple(paths)


def _name(given: "Given", number: str) -> Path:
    """Return the path for one file."""
    if isinstance(given, Path):
        return given
    if isinstance(given, str | os.PathLike):
        text = os.fspath(given)
        if not text or "\0" in text:
            raise UsageError(f"the path given is {text!r}; expected the name of a file or folder.")
        return Path(text)
    if isinstance(given, bytes | bytearray | memoryview):
        return MemoryPath.of(bytes(given), BYTES_GIVEN + number)
    if hasattr(given, "read"):
        return _read_file(cast("BinaryIO", given), number)
    return _name_dataset(given)


def _read_file(file: BinaryIO, number: str) -> Path:
    """Read an open file from its current position."""
    try:
        content = file.read()
    except ValueError as error:  # what Python raises for a closed file
        raise UsageError(f"the file given cannot be read: {error}") from error
    if not isinstance(content, bytes):
        raise UsageError(
            f'the file given is open for {type(content).__name__}; open it in binary, mode "rb".'
        )
    name = getattr(file, "name", None)
    return MemoryPath.of(content, name if isinstance(name, str) and name else BYTES_GIVEN + number)


def _name_dataset(given: Any) -> Path:
    """Return a path for a Dataset."""
    from pydicom import Dataset

    if not isinstance(given, Dataset):
        raise UsageError(
            f"an image is given as {type(given).__name__}; expected a path, bytes, a binary file, "
            "a pydicom Dataset or, for all frames together, one numpy array."
        )
    uid = str(given.get("SOPInstanceUID") or "")
    path = DatasetPath(f"Dataset {uid}" if uid else "the Dataset given")
    path.dataset = given
    return path
