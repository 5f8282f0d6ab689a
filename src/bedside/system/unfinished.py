"""Files and folders that are being written: hidden, and removed if they are not finished.

A part lies beside its final place, and is locked while its process lives. So parts of killed
processes are recognized, also from another machine that shares the folder, and are removed by the
next write there.
"""

import contextlib
import errno
import functools
import importlib
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bedside.system.signals import undone_early

try:
    _fcntl: Any = importlib.import_module("fcntl")
except ImportError:  # Windows
    _fcntl = None

_PART = re.compile(r"\.part-[0-9a-f]{16}")
_SCRATCH = re.compile(r"bedside-scratch-[0-9a-f]{16}$")
# A part ends as its target does, for libraries that go by the suffix; but not longer than this,
# as names of 255 bytes are the longest.
_TAIL = 40
# A thread may put another file into a folder that is just being removed.
_MOST_TRIES = 5

_tidied: set[str] = set()


@contextlib.contextmanager
def part_file(target: Path) -> Iterator[Path]:
    """Create an empty file beside `target` for its content; removed at the end if still there.

    Raises:
        OSError: If it cannot be made.
    """
    with _made(target.parent, ".part-", target.name[-_TAIL:], _make_file) as path:
        yield path


@contextlib.contextmanager
def part_folder(parent: Path) -> Iterator[Path]:
    """Create a hidden folder in `parent`; removed with its content at the end.

    Raises:
        OSError: If it cannot be made.
    """
    with _made(parent, ".part-", "", os.mkdir) as path:
        yield path


@contextlib.contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """Create a private folder for temporary files in `parent`; removed at the end.

    Raises:
        OSError: If it cannot be made.
    """
    with _made(parent, "bedside-scratch-", "", lambda path: os.mkdir(path, 0o700)) as path:
        yield path


def is_part(name: str) -> bool:
    """Whether a name is that of an unfinished file or folder."""
    return _PART.match(name) is not None


def tidy(folder: Path) -> None:
    """Remove unfinished parts of ended processes, once per process."""
    place = os.path.abspath(folder)
    if _fcntl is None or place in _tidied:
        return
    _tidied.add(place)
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if is_part(entry.name) or _SCRATCH.match(entry.name):
                _remove_stale(entry.path)


@contextlib.contextmanager
def _made(parent: Path, prefix: str, suffix: str, make: Callable[[Path], None]) -> Iterator[Path]:
    """Create a file or folder under a new name, locked, and remove it at the end."""
    tidy(parent)
    while True:
        path = parent / f"{prefix}{secrets.token_hex(8)}{suffix}"
        with contextlib.ExitStack() as stack:
            # Known before it is there, so that no moment is too early for it to be removed.
            stack.enter_context(undone_early(functools.partial(remove, path)))
            try:
                make(path)
            except FileExistsError:
                continue
            stack.callback(remove, path)
            if stack.enter_context(_holding(path)):
                yield path
                return


def _make_file(path: Path) -> None:
    # The kernel applies the process's file mode mask; asking for it would change it.
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))


@contextlib.contextmanager
def _holding(path: Path) -> Iterator[bool]:
    """Lock a path; return whether it still exists, as another process may have removed it.

    Where a file system has no locks nothing is locked, and nothing is ever tidied away.
    """
    if _fcntl is None:
        yield True
        return
    try:
        handle = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        yield False
        return
    try:
        with contextlib.suppress(OSError):
            _fcntl.flock(handle, _fcntl.LOCK_EX)
        yield os.path.exists(path)
    finally:
        os.close(handle)


def _remove_stale(path: str) -> None:
    """Remove a part if no process has locked it."""
    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            _fcntl.flock(handle, _fcntl.LOCK_EX | _fcntl.LOCK_NB)
            remove(Path(path))
        finally:
            os.close(handle)


def remove(path: Path) -> None:
    """Remove a file, or a folder with its content, as far as possible."""
    try:
        path.unlink()
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno not in (errno.EISDIR, errno.EPERM, errno.EACCES):
            return
        for _ in range(_MOST_TRIES):
            shutil.rmtree(path, ignore_errors=True)
            if not path.exists():
                break
