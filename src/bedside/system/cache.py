"""The user's cache folder: the only place beside the output that bedside writes to."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path


def cache_folder() -> Path | None:
    """Return the user's cache folder for bedside, as the XDG base directories define it.

    Returns:
        `bedside` below XDG_CACHE_HOME, or below ~/.cache. None for a user without a home, as
        in a container that runs under a number: nothing is remembered then.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(base):
        return Path(base, "bedside")
    home = os.path.expanduser("~")
    return Path(home, ".cache", "bedside") if os.path.isabs(home) else None


@contextlib.contextmanager
def any_home() -> Iterator[None]:
    """Set HOME within the block if there is none, for libraries that need one as they load.

    It is the folder for temporary files; nothing is made in it.
    """
    if os.path.isabs(os.path.expanduser("~")):
        yield
        return
    before = os.environ.get("HOME")
    os.environ["HOME"] = tempfile.gettempdir()
    try:
        yield
    finally:
        if before is None:
            del os.environ["HOME"]
        else:
            os.environ["HOME"] = before
