"""Parts of messages as files."""

from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

from python_multipart.multipart import parse_options_header

DICOM = "application/dicom"
"""Media type of an instance."""

# No instance is smaller: its file meta information alone takes nearly as much.
_LEAST_BYTES = 256


class PartSpool:
    """Writes parts to files; a context manager.

    Args:
        folder: Where they are written.

    Attributes:
        parts: A file for each part; None for one that is no instance by its type or size.
    """

    def __init__(self, folder: Path) -> None:
        self.parts: list[Path | None] = []
        self._folder = folder
        self._is_dicom = False
        self._head = b""
        self._file: BinaryIO | None = None

    def begin(self, headers: Mapping[str, str]) -> None:
        """Begin a part."""
        kind, _ = parse_options_header(headers.get("content-type", DICOM))
        self._is_dicom, self._head = kind == DICOM.encode(), b""
        self.parts.append(None)

    def write(self, content: bytes) -> None:
        """Take the next bytes; a file is made once there are enough for an instance."""
        if self._file is not None:
            self._file.write(content)
        elif self._is_dicom:
            self._head += content
            if len(self._head) >= _LEAST_BYTES:
                path = self._folder / f"{len(self.parts):05d}"
                self._file = path.open("wb")
                self._file.write(self._head)
                self.parts[-1] = path

    def end(self) -> None:
        """End the part."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> "PartSpool":
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file that is open."""
        self.end()
