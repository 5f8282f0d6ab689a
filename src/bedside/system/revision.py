"""The revision of the running code, and of a folder under git."""

import subprocess
from pathlib import Path

from bedside.version import __version__


def find_commit() -> str:
    """Revision of the running code, or its version without a repository."""
    return describe_folder(Path(__file__).parent) or f"bedside {__version__}"


def describe_folder(folder: Path) -> str | None:
    """Revision of the repository that a folder is in; None without one, or without git."""
    command = ["git", "--no-optional-locks", "-C", str(folder)]
    command += ["describe", "--always", "--dirty", "--abbrev=12"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()
