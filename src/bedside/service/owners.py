"""Processes that work on jobs: each holds a locked file, which the system unlocks at its end."""

import importlib
import os
import secrets
from pathlib import Path
from typing import Any

from bedside.errors import BackendError

try:
    _fcntl: Any = importlib.import_module("fcntl")
except ImportError:  # Windows
    _fcntl = None


class Owner:
    """This process, or a part of it, as one that works on jobs.

    Args:
        folder: Folder of all owners; made if it is missing.

    Raises:
        OSError: If no file can be made there.
        BackendError: If this system has no file locks.
    """

    def __init__(self, folder: Path) -> None:
        if _fcntl is None:
            raise BackendError(
                "this system has no file locks; a store of jobs needs Linux or macOS."
            )
        folder.mkdir(exist_ok=True, mode=0o700)
        while True:
            self.name = secrets.token_hex(8)
            self._path = folder / self.name
            self._handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            _fcntl.flock(self._handle, _fcntl.LOCK_EX)
            if self._path.exists():  # nobody has taken it for dead before it was locked
                return
            os.close(self._handle)

    def close(self) -> None:
        """Remove the file; once is enough."""
        handle, self._handle = self._handle, -1
        if handle >= 0:
            self._path.unlink(missing_ok=True)
            os.close(handle)


def is_dead(folder: Path, name: str) -> bool:
    """Whether an owner has ended, in order or not; the file that it left is removed.

    Args:
        folder: Folder of all owners.
        name: Its name.
    """
    try:
        handle = os.open(folder / name, os.O_RDWR)
    except FileNotFoundError:
        return True
    try:
        _fcntl.flock(handle, _fcntl.LOCK_EX | _fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    else:
        (folder / name).unlink(missing_ok=True)
        return True
    finally:
        os.close(handle)
