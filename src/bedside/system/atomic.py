"""Files that are there whole or not at all: temporary file, fsync, rename."""

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

from bedside.errors import BedsideError, OutputError, printable
from bedside.system.signals import held, undone_early
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
    with output_errors(path), made_folder(path.parent), part_file(path) as temporary:
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
    with output_errors(path), made_folder(path.parent), part_folder(path.parent) as folder:
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


def append_bytes(path: Path, content: bytes, *, durable: bool = False) -> None:
    """Append `content` to `path` in one write, since others may append at the same time.

    What of it was written before the disk was full is taken back, and so is a file that was
    made for it.

    Args:
        path: The file; made if missing, as are the folders above it.
        content: Such as a line with its end.
        durable: Whether to wait until it is on the disk.

    Raises:
        OutputError: If it cannot be written.
    """
    path = Path(path)
    with output_errors(path), made_folder(path.parent):
        is_new = not path.exists()
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            append_whole(handle, content)
            if durable:
                os.fsync(handle)
        except OSError:
            if is_new and not os.fstat(handle).st_size:
                path.unlink(missing_ok=True)
            raise
        finally:
            os.close(handle)


def append_whole(handle: int, content: bytes) -> None:
    """Append to an open file in one write, all or nothing.

    Args:
        handle: Of a file that is opened to be appended to.
        content: What to append.

    Raises:
        OSError: If not all of it could be written; the part that was is taken back, unless
            another process has appended since.
    """
    written = os.write(handle, content)
    if written < len(content):
        end = os.fstat(handle).st_size
        if os.lseek(handle, 0, os.SEEK_CUR) == end:
            os.ftruncate(handle, end - written)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


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


@contextlib.contextmanager
def made_folder(folder: Path) -> Iterator[None]:
    """Make a folder and those above it, for a block that writes into it.

    If the block raises or is stopped, folders that were made and are empty go again.

    Raises:
        OSError: If it cannot be made.
    """
    missing = [place for place in (folder, *folder.parents) if not place.exists()]

    def leave() -> None:
        for place in missing:
            with contextlib.suppress(OSError):
                place.rmdir()

    with undone_early(leave):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            yield
        except BaseException:
            leave()
            raise


@contextlib.contextmanager
def output_folder(folder: Path | None) -> Iterator[None]:
    """Make a folder for results, and check before any work that there is room in it.

    If the block raises or is stopped, folders that were made and are empty go again.

    Args:
        folder: Where results are to be; None for a run that writes none.

    Raises:
        OutputError: If the folder cannot be made or written to.
    """
    with contextlib.ExitStack() as stack:
        if folder is not None:
            with output_errors(folder):
                stack.enter_context(made_folder(Path(folder)))
                with part_file(Path(folder) / "try") as trial:
                    trial.write_bytes(bytes(_FULL_BYTES))
        yield


@contextlib.contextmanager
def files_together(folder: Path) -> Iterator[Path]:
    """Return a hidden folder for files that belong together, and move them out when all is well.

    So that the figures of one run never lie beside the pictures of another. Files in the folder
    with other names stay.

    Args:
        folder: Where the files are to be; made if missing.

    Yields:
        A folder in it.

    Raises:
        OutputError: If something cannot be written or moved.
    """
    folder = Path(folder)
    with contextlib.ExitStack() as stack:
        with output_errors(folder):
            stack.enter_context(made_folder(folder))
            staging = stack.enter_context(part_folder(folder))
        yield staging
        with output_errors(folder), held():
            for path in sorted(staging.iterdir()):
                path.replace(folder / path.name)


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
