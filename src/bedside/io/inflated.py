"""The bytes of a file, inflated if compressed, read piece by piece and never held whole."""

import tempfile
import threading
import weakref
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from bedside.errors import FormatError

_CHUNK = 2**20
_GZIP = b"\x1f\x8b"
# Window bits that tell zlib to take streams with a header of gzip's or of its own.
_EITHER = 47
# What inflates to less is kept in memory; more goes to a file without a name.
_IN_MEMORY = 2**24


class Inflated:
    """A file to read from anywhere in, several threads at a time.

    Args:
        path: The file.
        max_bytes: A file that is larger, or inflates to more, is refused.
        start: Where in the file what is read begins, in bytes.
        compressed: Whether that is a gzip or zlib stream; None to tell gzip by its first bytes.

    Attributes:
        size: Bytes from `start` on, after inflating.

    Raises:
        FormatError: If it is larger, truncated, or no such stream after all.
    """

    def __init__(
        self, path: Path, *, max_bytes: int, start: int = 0, compressed: bool | None = None
    ) -> None:
        self._path = path
        self._lock = threading.Lock()
        file: IO[bytes] = path.open("rb")
        file.seek(start)
        if compressed is None:
            compressed = file.read(2) == _GZIP
            file.seek(start)
        if compressed:
            with file:
                file = self._inflate(file, max_bytes)
            start = 0
        weakref.finalize(self, file.close)
        self._file, self._start = file, start
        self.size = file.seek(0, 2) - start
        if self.size > max_bytes:
            raise _too_large(path, max_bytes)

    def read(self, offset: int, size: int) -> bytes:
        """Read bytes.

        Raises:
            FormatError: If the file has become shorter since it was opened.
        """
        with self._lock:
            self._file.seek(self._start + offset)
            content = self._file.read(size)
        if len(content) < size:
            raise FormatError(f"{self._path} ends at byte {offset + len(content)}; copy it again.")
        return content

    def _inflate(self, file: IO[bytes], max_bytes: int) -> IO[bytes]:
        spool = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115
        try:
            for piece in _inflate_pieces(file, self._path):
                spool.write(piece)
                if spool.tell() > max_bytes:
                    raise _too_large(self._path, max_bytes)
        except BaseException:
            spool.close()
            raise
        return spool


def _inflate_pieces(file: IO[bytes], path: Path) -> Iterator[bytes]:
    """Inflate a stream, never more than a chunk at a time.

    Raises:
        FormatError: If it is damaged or has no end.
    """
    inflater = zlib.decompressobj(_EITHER)
    try:
        while chunk := inflater.unconsumed_tail or file.read(_CHUNK):
            yield inflater.decompress(chunk, _CHUNK)
    except zlib.error as error:
        raise FormatError(f"{path}: the compressed stream is damaged ({error}).") from error
    if not inflater.eof:
        raise FormatError(f"{path}: the stream has no end. The file is truncated; copy it again.")


def _too_large(path: Path, max_bytes: int) -> FormatError:
    return FormatError(
        f"{path} holds more than {max_bytes / 2**30:g} GiB and is refused. Crop or split it."
    )
