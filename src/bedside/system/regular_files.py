"""Opens files that a user or a header names, only if they are regular files or in memory."""

import errno
import io
import os
import stat
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any, BinaryIO

if sys.platform == "win32":
    from pathlib import WindowsPath as _SystemPath
else:
    from pathlib import PosixPath as _SystemPath

_KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


class MemoryPath(_SystemPath):
    """Bytes in memory under a name, for readers that take a path.

    Nothing of it is on disk: what lies beside it, such as the voxels that a header names, is
    missing. Made by `MemoryPath.of`.

    Example:
        >>> path = MemoryPath.of(b"NRRD0004", "the bytes given")
        >>> path.open("rb").read(4), path.stat().st_size, (path.parent / "voxels.raw").is_file()
        (b'NRRD', 8, False)
    """

    content: bytes | None = None

    @classmethod
    def of(cls, content: bytes | None, name: str) -> "MemoryPath":
        """Return bytes under a name for errors and reports."""
        path = cls(name)
        path.content = content
        return path

    def open(self, mode: str = "r", *_: Any, **__: Any) -> Any:
        """Open the bytes for reading."""
        if self.content is None or mode != "rb":
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(self))
        return io.BytesIO(self.content)

    def stat(self, *, follow_symlinks: bool = True) -> os.stat_result:
        """Size and mode of a regular file."""
        with self.open("rb") as file:
            return os.stat_result((stat.S_IFREG, 0, 0, 1, 0, 0, file.seek(0, 2), 0, 0, 0))

    def is_file(self, **_: Any) -> bool:
        """Whether it holds bytes."""
        return self.content is not None

    def is_dir(self, **_: Any) -> bool:
        """False: there are no folders in memory."""
        return False

    def iterdir(self) -> Generator[Any, None, None]:
        """Nothing."""
        yield from ()


def name_kind(mode: int) -> str | None:
    """Kind of a path that is no regular file; None for a regular file."""
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
    if isinstance(path, MemoryPath):
        return io.BytesIO(path.read_bytes())
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
