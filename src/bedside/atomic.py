"""Files that are there whole or not at all: temporary file, fsync, rename."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bedside.errors import OutputError


@contextlib.contextmanager
def written_atomically(path: Path) -> Iterator[Path]:
    """Give the caller a temporary path beside `path`, and rename it when the block ends well.

    A reader sees the old file or the new one, never a part. If the block raises, the
    temporary file is removed and `path` is as it was.

    Args:
        path: Where the finished file is to be. Missing folders above it are made.

    Yields:
        A path in the same folder and with the same suffixes, for the caller to write to.

    Raises:
        OutputError: If the folder cannot be made or written to.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".part-", suffix=path.name, dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise OutputError(
            f"cannot write {path}: {error.strerror or error}. "
            "Choose a folder that you may write to with -o."
        ) from error
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes files private to the user; a result is an ordinary file.
        temporary.chmod(0o666 & ~_umask())
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}.") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path`, whole or not at all.

    Raises:
        OutputError: If it cannot be written.
    """
    with written_atomically(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    """Write `content` to `path` as UTF-8, whole or not at all.

    Raises:
        OutputError: If it cannot be written.
    """
    write_bytes(path, content.encode("utf-8"))


def write_text_once(path: Path, content: str) -> bool:
    """Write `content` to `path` as UTF-8, whole, unless a file is there already.

    Of several processes that write at once, one succeeds.

    Returns:
        Whether it was written.

    Raises:
        OutputError: If it cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".part-", dir=path.parent) as folder:
            part = Path(folder) / path.name
            part.write_text(content, "utf-8")
            try:
                os.link(part, path)  # which, unlike a rename, replaces nothing
            except FileExistsError:
                return False
            except OSError:  # a file system without hard links
                if path.exists():
                    return False
                part.replace(path)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror or error}.") from error
    return True


def check_writable(folder: Path) -> None:
    """Make sure, before any work is done, that results can be written into `folder`.

    Raises:
        OutputError: If the folder cannot be made or written to.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".part-", dir=folder)
        os.close(handle)
        Path(name).unlink()
    except OSError as error:
        raise OutputError(
            f"cannot write into {folder}: {error.strerror or error}. "
            "Choose a folder that you may write to with -o."
        ) from error


def _umask() -> int:
    """Read the process's file mode mask, which POSIX only tells to those who set it."""
    mask = os.umask(0)
    os.umask(mask)
    return mask
