"""Opening what a user, or a header, names as a file: only if it is one."""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


def name_kind(mode: int) -> str | None:
    """What a path is that is no regular file, by its mode; None if it is one."""
    if stat.S_ISREG(mode):
        return None
    return _KINDS.get(stat.S_IFMT(mode), "no regular file")


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading in binary.

    A named pipe would be waited for, perhaps for ever; a device may never end, and opening one
    may have an effect.

    Raises:
        OSError: If it cannot be opened or is no regular file; its `strerror` says which.
    """
    # Looked at before, as a device must not be opened, and after, as it may be another by then.
    _check(os.stat(path).st_mode, path)
    nonblocking = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    file = open(os.open(path, os.O_RDONLY | nonblocking), "rb")  # noqa: SIM115
    try:
        _check(os.fstat(file.fileno()).st_mode, path)
    except OSError:
        file.close()
        raise
    return file


def read_regular(path: Path) -> bytes:
    """Read a file whole.

    Raises:
        OSError: As `open_regular`.
    """
    with open_regular(path) as file:
        return file.read()


def _check(mode: int, path: Path) -> None:
    kind = name_kind(mode)
    if kind is not None:
        number = errno.EISDIR if stat.S_ISDIR(mode) else errno.EINVAL
        raise OSError(number, f"it is {kind}; expected a file", str(path))
