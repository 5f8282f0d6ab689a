"""Bundles by name: those that come with the package."""

import os
from collections.abc import Callable
from pathlib import Path

from bedside.bundle.store import SUFFIX
from bedside.errors import BundleError

_FOLDER = Path(__file__).parent.parent / "bundles"


def shipped_bundles() -> list[Path]:
    """Return the paths of the bundles that come with the package, sorted by name."""
    return sorted(_FOLDER.glob(f"*{SUFFIX}"))


def find_bundle(name_or_path: str, *, on_notice: Callable[[str], None] = lambda text: None) -> Path:
    """Return the path of a bundle, given the name of a shipped one or a path.

    What has a separator or the suffix is a path and nothing else is: no file that happens to lie
    in the working folder can take the place of a shipped bundle.

    Args:
        name_or_path: Path of a `.bedside` file, or a name such as "camus-4ch".
        on_notice: Called with a sentence if a file here has the name of the shipped bundle.

    Raises:
        BundleError: If there is no such file and no shipped bundle of that name.
    """
    path = Path(name_or_path)
    if is_bundle_path(name_or_path):
        if path.is_file():
            return path
        if path.is_dir():
            raise BundleError(f"{path} is a folder; a bundle is one file, NAME{SUFFIX}.")
        if os.path.lexists(path):
            return path  # the reader reports what it is
    here = [each for each in (name_or_path, f"{name_or_path}{SUFFIX}") if Path(each).exists()]
    shipped = {found.name.removesuffix(SUFFIX): found for found in shipped_bundles()}
    if name_or_path in shipped:
        for each in here:
            on_notice(
                f'"{name_or_path}" is the shipped bundle; {each} in the working folder is not '
                f"used. Name it as .{os.sep}{each} if you mean it."
            )
        return shipped[name_or_path]
    names = ", ".join(shipped) or "none"
    hint = f"If you mean the file here, write .{os.sep}{here[0]}. " if here else ""
    raise BundleError(
        f'no bundle "{name_or_path}". {hint}Give the path of a {SUFFIX} file, '
        f"or the name of a shipped one: {names}."
    )


def is_bundle_path(name_or_path: str) -> bool:
    """Whether a text names a file, and not a shipped bundle.

    Example:
        >>> [is_bundle_path(text) for text in ("camus-4ch", "./camus-4ch", "my.bedside")]
        [False, True, True]
    """
    return name_or_path.endswith(SUFFIX) or any(
        separator in name_or_path for separator in (os.sep, os.altsep) if separator
    )
