"""Zip files that nobody trusts, unpacked under limits."""

import io
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from bedside.errors import FormatError, LimitError

# The central directory is read at once; this is room for 20,000 long names.
_MOST_AT_ONCE = 2**22
_CHUNK = 2**20
_KNOWN = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 1


def is_zip(head: bytes) -> bool:
    """Whether a file begins as a zip does."""
    return head.startswith((b"PK\x03\x04", b"PK\x05\x06"))


def unpack_zip(
    path: Path, folder: Path, *, max_bytes: int, max_files: int, take: Callable[[int], None]
) -> None:
    """Unpack a zip, its files as image_00001, image_00002, ... in one new folder.

    Args:
        path: The zip.
        folder: Created for the files.
        max_bytes: Of all files together.
        max_files: How many there may be.
        take: Called with the number of bytes before they are written; it may refuse them.

    Raises:
        FormatError: If it is damaged, encrypted, or names a place outside of itself.
        LimitError: If there is more in it than allowed.
    """
    folder.mkdir()
    try:
        with _Capped(path) as file, zipfile.ZipFile(file) as archive:
            members = [each for each in archive.infolist() if not _is_extra(each)]
            if len(members) > max_files:
                raise LimitError(f"the zip has more than {max_files} files. Send fewer.")
            left = max_bytes
            for number, member in enumerate(members, start=1):
                _check_member(member)
                with archive.open(member) as packed:
                    left = _write(
                        packed, folder / f"image_{number:05d}", left, allowed=max_bytes, take=take
                    )  # fmt: skip
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError) as error:
        if isinstance(error, FormatError):
            raise
        raise FormatError("the zip is damaged. Pack it again.") from error
    if not members:
        raise FormatError("the zip is empty.")


def _is_extra(member: zipfile.ZipInfo) -> bool:
    """Whether a member is a folder, or what systems add to their zips."""
    parts = PurePosixPath(member.filename).parts
    return member.is_dir() or "__MACOSX" in parts or (bool(parts) and parts[-1].startswith("."))


def _check_member(member: zipfile.ZipInfo) -> None:
    name = PurePosixPath(member.filename.replace("\\", "/"))
    if name.is_absolute() or ".." in name.parts:
        raise FormatError("the zip names a place outside of itself. Do not trust it.")
    if stat.S_ISLNK(member.external_attr >> 16):
        raise FormatError("the zip holds a link. Pack the files themselves.")
    if member.flag_bits & _ENCRYPTED:
        raise FormatError("the zip is encrypted. Send it without a password.")
    if member.compress_type not in _KNOWN:
        raise FormatError("the zip is compressed in an unusual way. Use deflate.")


def _write(
    packed: Any, target: Path, left: int, *, allowed: int, take: Callable[[int], None]
) -> int:
    """Write a member; return how many bytes may follow."""
    with target.open("wb") as file:
        while chunk := packed.read(_CHUNK):
            left -= len(chunk)
            if left < 0:
                shutil.rmtree(target.parent, ignore_errors=True)
                raise LimitError(
                    f"the zip unpacks to more than {allowed / 2**20:g} MiB. Send less."
                )
            take(len(chunk))
            file.write(chunk)
    return left


class _Capped(io.FileIO):
    """A file that is not read in large pieces, as `zipfile` reads whatever a directory claims."""

    def read(self, size: int | None = -1, /) -> Any:
        """Read a piece, or all that is left.

        Raises:
            LimitError: If it is large.
        """
        most = _MOST_AT_ONCE + 1
        found = super().read(most if size is None or size < 0 else min(size, most))
        if len(found) > _MOST_AT_ONCE:
            raise LimitError("the directory of the zip is too large. Send fewer files.")
        return found
