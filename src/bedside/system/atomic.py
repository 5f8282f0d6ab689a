"""Files that are there whole or not at all: temporary file, fsync, rename."""

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from bedside.errors import BedsideError, OutputError, printable
from bedside.system.unfinished import is_part, part_file, part_folder

_MAY_WRITE = "Choose a folder that you may write to with -o."
_FULL = "Free some space, or choose another place with -o."
_ADVICE = {
    errno.EACCES: _MAY_WRITE,
    errno.EPERM: _MAY_WRITE,
    errno.EROFS: _MAY_WRITE,
    errno.ENOSPC: _FULL,
    getattr(errno, "EDQUOT", -1): _FULL,
    errno.EFBIG: "The system limits the size of a file (see `ulimit -f`); raise that limit.",
    errno.ENAMETOOLONG: "Choose a shorter name with -o.",
    errno.EEXIST: "A file is in the way; name a folder with -o.",
    errno.ENOTDIR: "A file is in the way; name a folder with -o.",
    errno.EISDIR: "A folder is in the way; choose another name with -o.",
}
# A disk with less than this is full: no result is smaller.
_FULL_BYTES = 4096


@contextlib.contextmanager
def written_atomically(path: Path) -> Iterator[Path]:
    """Write to a temporary path beside `path`, renamed to it when the block succeeds.

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
    with output_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with part_file(path) as temporary:
            yield temporary
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path`, whole or not at all.

    Raises:
        OutputError: If it cannot be written.
    """
    with written_atomically(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, content: str) -> None:
    r"""Write `content` to `path` as UTF-8, whole or not at all.

    What is no text, as a file's name may be, is written as `\xff`.

    Raises:
        OutputError: If it cannot be written.
    """
    write_bytes(path, printable(content).encode("utf-8"))


def write_text_once(path: Path, content: str) -> bool:
    """Write `content` to `path` as UTF-8, whole, unless a file is there already.

    Of several processes that write at once, one succeeds.

    Returns:
        Whether it was written.

    Raises:
        OutputError: If it cannot be written.
    """
    path = Path(path)
    with output_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with part_folder(path.parent) as folder:
            part = folder / path.name
            part.write_text(content, "utf-8")
            try:
                os.link(part, path)  # which, unlike a rename, replaces nothing
            except FileExistsError:
                return False
            except OSError:  # a file system without hard links
                if path.exists():
                    return False
                part.replace(path)
    return True


def sync_folder(folder: Path) -> None:
    """Put the names of the files in a folder on disk, if it is there.

    Raises:
        OSError: If the disk fails.
    """
    try:
        handle = os.open(folder, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
    except FileNotFoundError:
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def check_writable(folder: Path) -> None:
    """Make sure, before any work is done, that results can be written into `folder`.

    Raises:
        OutputError: If the folder cannot be made or written to.
    """
    folder = Path(folder)
    with output_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with part_file(folder / "try"):
            pass


@contextlib.contextmanager
def output_errors(path: Path) -> Iterator[None]:
    """Turn errors of writing into an OutputError with advice.

    Args:
        path: What is written, as the user knows it.

    Raises:
        OutputError: In place of every OSError, and of errors of libraries that say in words
            of their own that the system refused to write.
    """
    try:
        yield
    except BedsideError:
        raise
    except Exception as error:
        if _find_errno(error, path) is None and not isinstance(error, OSError):
            raise
        raise make_output_error(error, path) from error


def make_output_error(error: Exception, path: Path) -> OutputError:
    """Return the error that says why a file cannot be written, and what to do.

    Args:
        error: What the system or a library raised.
        path: What is written, as the user knows it.
    """
    number = _find_errno(error, path)
    reason = os.strerror(number) if number else str(error)
    advice = _ADVICE.get(number or 0, "Choose another place with -o.")
    # Results are written to a hidden folder first, of which nobody needs to know.
    shown = Path(*(each for each in path.parts if not is_part(each)))
    return OutputError(f"cannot write {shown}: {reason.rstrip('.')}. {advice}")


def _find_errno(error: Exception, path: Path) -> int | None:
    """Return the number of the system error; None if there is none."""
    if isinstance(error, OSError) and error.errno:
        return error.errno
    # As libraries in Rust say it, or those that catch an error and raise one of their own.
    if told := re.search(r"\(os error (\d+)\)|\[Errno (\d+)\]", str(error)):
        return int(told[1] or told[2])
    with contextlib.suppress(OSError):
        if shutil.disk_usage(_existing(path)).free < _FULL_BYTES:
            return errno.ENOSPC
    return None


def _existing(path: Path) -> Path:
    """Return the nearest existing folder of a path."""
    return next(place for place in (path.absolute(), *path.absolute().parents) if place.exists())
