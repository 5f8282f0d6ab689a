"""The bytes of a file, decompressed if needed, read in pieces and never held whole."""

import tempfile
import threading
import weakref
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from bedside.errors import FormatError, OutputError
from bedside.io.packing import Unpacker
from bedside.system.regular_files import open_regular

_CHUNK = 2**20
_GZIP = b"\x1f\x8b"
# zlib window bits: gzip or zlib header, gzip header only.
_EITHER, _GZIP_ONLY = 47, 31
# Compressed bytes per read: the rest after a member is copied once per member.
_FED = 2**14
# Most bytes kept in memory; more go to an unnamed file.
_IN_MEMORY = 2**24


class Inflated:
    """A file for random access by several threads, decompressed if needed.

    Args:
        path: The file.
        max_bytes: A file that is larger, or inflates to more, is refused.
        start: Offset of the first byte to read.
        expected: Most bytes that a compressed file may inflate to, by its header; None for
            `max_bytes`.
        compressed: Whether it is a gzip or zlib stream; None to recognise gzip.
        unpack: Another decoder of the bytes; None for none.

    Attributes:
        size: Bytes from `start` on, decompressed.

    Raises:
        FormatError: If it is too large, truncated or damaged.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int,
        start: int = 0,
        expected: int | None = None,
        compressed: bool | None = None,
        unpack: Unpacker | None = None,
    ) -> None:
        self._path = path
        self._lock = threading.Lock()
        file: IO[bytes] = open_regular(path)
        file.seek(start)
        if compressed is None:
            compressed = file.read(2) == _GZIP
            file.seek(start)
        unpack = _inflate_pieces if compressed else unpack
        if unpack is not None:
            with file:
                pieces = unpack(file, path)
                file = self._spool(pieces, max_bytes if expected is None else expected)
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

    def _spool(self, pieces: Iterator[bytes], max_bytes: int) -> IO[bytes]:
        spool = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115
        try:
            for piece in pieces:
                self._keep(piece, spool)
                if spool.tell() > max_bytes:
                    raise _too_large(self._path, max_bytes)
        except BaseException:
            spool.close()
            raise
        return spool

    def _keep(self, piece: bytes, spool: IO[bytes]) -> None:
        """Write decompressed bytes to the temporary file."""
        try:
            spool.write(piece)
        except OSError as error:
            raise OutputError(
                f"cannot inflate {self._path} into a temporary file: {error.strerror or error}. "
                "Free some space there, or name another folder by TMPDIR."
            ) from error


def read_beginning(path: Path, size: int) -> bytes:
    """Return the first bytes of a file, decompressed if it is gzip.

    Args:
        path: The file.
        size: How many; fewer if there are fewer.

    Raises:
        FormatError: If it is gzip, and damaged or truncated within these bytes.
    """
    content = bytearray()
    with open_regular(path) as file:
        compressed = file.read(2) == _GZIP
        file.seek(0)
        if not compressed:
            return file.read(size)
        for piece in _inflate_pieces(file, path, step=min(size, _CHUNK)):
            content += piece
            if len(content) >= size:
                break
    return bytes(content[:size])


def _inflate_pieces(file: IO[bytes], path: Path, *, step: int = _CHUNK) -> Iterator[bytes]:
    """Yield the decompressed stream, a chunk at a time.

    A gzip file may have several members (bgzip, mgzip, pigz, cat); all are decompressed, as gzip
    does. Zeros and other bytes after a member are ignored.
    """
    inflater = zlib.decompressobj(_EITHER)
    rest = file.read(_FED)
    is_gzip = rest.startswith(_GZIP)
    try:
        while chunk := rest or file.read(_FED):
            if piece := inflater.decompress(chunk, step):
                yield piece
            rest = inflater.unconsumed_tail
            if inflater.eof:
                rest = _find_member(inflater.unused_data, file) if is_gzip else b""
                if not rest:
                    return
                inflater = zlib.decompressobj(_GZIP_ONLY)
    except zlib.error as error:
        raise FormatError(f"{path}: the compressed stream is damaged ({error}).") from error
    raise FormatError(f"{path}: the stream has no end. The file is truncated; copy it again.")


def _find_member(rest: bytes, file: IO[bytes]) -> bytes:
    """Return the start of the next member of a gzip file; empty if there is none."""
    rest = rest.lstrip(b"\0")
    while len(rest) < len(_GZIP) and (more := file.read(_FED)):
        rest = (rest + more).lstrip(b"\0")
    return rest if rest.startswith(_GZIP) else b""


def _too_large(path: Path, max_bytes: int) -> FormatError:
    if max_bytes >= 2**30:
        most, way_out = f"{max_bytes / 2**30:g} GiB", "Crop or split it."
    else:
        most, way_out = f"{max_bytes} bytes", "It is damaged or malicious."
    return FormatError(f"{path} holds more than {most} and is refused. {way_out}")
