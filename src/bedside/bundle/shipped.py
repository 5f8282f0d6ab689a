"""Bundles by name: those that come with the package."""

from pathlib import Path

from bedside.bundle.store import SUFFIX
from bedside.errors import BundleError

_FOLDER = Path(__file__).parent.parent / "bundles"


def shipped_bundles() -> list[Path]:
    """List the bundles that come with the package, by name."""
    return sorted(_FOLDER.glob(f"*{SUFFIX}"))


def find_bundle(name_or_path: str) -> Path:
    """Find a bundle: a file, or the name of a shipped one.

    Args:
        name_or_path: Path of a `.bedside` file, or a name such as "camus-4ch".

    Raises:
        BundleError: If there is no such file and no shipped bundle of that name.
    """
    path = Path(name_or_path)
    if path.is_file():
        return path
    if path.is_dir():
        raise BundleError(f"{path} is a folder; a bundle is one file, NAME{SUFFIX}.")
    shipped = {found.name.removesuffix(SUFFIX): found for found in shipped_bundles()}
    if name_or_path in shipped:
        return shipped[name_or_path]
    names = ", ".join(shipped) or "none"
    raise BundleError(
        f'no bundle "{name_or_path}". Give the path of a {SUFFIX} file, '
        f"or the name of a shipped one: {names}."
    )
