"""The zip of a bundle: reproducible when written, distrusted when read."""

import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Mapping

from bedside.errors import BundleError

MAX_MEMBER_BYTES = 64 * 2**20
MAX_FILE_BYTES = 2 * MAX_MEMBER_BYTES

# What zipfile raises on damaged or foreign archives, found by cutting and flipping bytes.
_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    NotImplementedError,
    OSError,
    RuntimeError,
    ValueError,
)


def pack(members: Mapping[str, bytes]) -> bytes:
    """Put members into a zip whose bytes depend on names and contents only.

    Args:
        members: Content by name.

    Example:
        >>> pack({"b": b"2", "a": b"1"}) == pack({"a": b"1", "b": b"2"})
        True
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(members):
            info = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            info.create_system = 3
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, members[name], compresslevel=9)
    return buffer.getvalue()


def unpack(content: bytes, *, allowed: frozenset[str], where: str) -> dict[str, bytes]:
    """Return the members of a zip, refusing anything that a bundle cannot contain.

    Nothing is written to disk, and no more than `MAX_MEMBER_BYTES` is inflated for a
    member, whatever its header claims.

    Args:
        content: The whole file.
        allowed: Names that may occur.
        where: Path of the file, for errors.

    Returns:
        Content by name.

    Raises:
        BundleError: If it is not a zip, is damaged, or has a member that escapes, repeats,
            is a link, is too large, or is not in `allowed`.
    """
    if not content.startswith(b"PK\x03\x04"):
        raise BundleError(f"{where} is not a bundle: it is not a zip. Build or copy it again.")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = archive.infolist()
            _check_names([entry.filename for entry in entries], allowed, where)
            for entry in entries:
                _check_entry(entry, where)
            return {entry.filename: _inflate(archive, entry, where) for entry in entries}
    except BundleError:
        raise
    except _ZIP_ERRORS as error:
        raise BundleError(
            f"{where} is damaged or cut short ({error}). Copy or build it again."
        ) from error


def _check_names(names: list[str], allowed: frozenset[str], where: str) -> None:
    """Refuse names that escape, repeat, or that no bundle has."""
    for name in names:
        if name.startswith(("/", "\\")) or ".." in name or ":" in name or "\\" in name:
            raise BundleError(f"{where} is refused: its member {name!r} points outside it.")
        if names.count(name) > 1:
            raise BundleError(f"{where} is refused: it has the member {name!r} twice.")
        if name not in allowed:
            raise BundleError(
                f"{where} is refused: it has a member {name!r} that no bundle has. "
                f"Known members: {', '.join(sorted(allowed))}."
            )


def _check_entry(entry: zipfile.ZipInfo, where: str) -> None:
    """Refuse links, encryption, odd compression, and sizes over the cap."""
    kind = stat.S_IFMT(entry.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        raise BundleError(f"{where} is refused: its member {entry.filename!r} is not a plain file.")
    if entry.flag_bits & 0x1:
        raise BundleError(f"{where} is refused: its member {entry.filename!r} is encrypted.")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise BundleError(
            f"{where} is refused: its member {entry.filename!r} is compressed by method "
            f"{entry.compress_type}; expected stored or deflated."
        )
    if entry.file_size > MAX_MEMBER_BYTES:
        _refuse_size(entry.filename, f"{entry.file_size} bytes", where)


def _inflate(archive: zipfile.ZipFile, entry: zipfile.ZipInfo, where: str) -> bytes:
    """Inflate one member, and stop one byte over the cap."""
    with archive.open(entry) as stream:
        content = stream.read(MAX_MEMBER_BYTES + 1)
    if len(content) > MAX_MEMBER_BYTES:
        _refuse_size(entry.filename, "more than the cap", where)
    if len(content) != entry.file_size:
        raise BundleError(
            f"{where} is damaged: its member {entry.filename!r} has {len(content)} bytes, "
            f"its header says {entry.file_size}. Copy or build it again."
        )
    return content


def _refuse_size(name: str, seen: str, where: str) -> None:
    raise BundleError(
        f"{where} is refused: its member {name!r} inflates to {seen}; "
        f"at most {MAX_MEMBER_BYTES} bytes."
    )
