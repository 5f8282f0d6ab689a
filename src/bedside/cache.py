"""The user's cache folder: the only place beside the output that bedside writes to."""

import os
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
