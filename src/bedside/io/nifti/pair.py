"""NIfTI in two files: NAME.hdr, and voxels in NAME.img; either may be compressed."""

from pathlib import Path

from bedside.errors import FormatError
from bedside.io.gzip_stream import read_beginning

_HEADERS = (".hdr", ".hdr.gz", ".HDR")
_VOXELS = (".img", ".img.gz", ".IMG")
_PAIR = (b"ni1\0", b"ni2\0")


def find_voxels(header: Path) -> Path:
    """Return the file with the voxels of a header.

    Args:
        header: The file with the header, whatever its name ends in.

    Raises:
        FormatError: If it is missing.
    """
    stem = _stem(header, _HEADERS) or header.name
    found = next(
        (each for end in _VOXELS if (each := header.with_name(stem + end)).is_file()), None
    )
    if found is None:
        raise FormatError(
            f"{header} is the header of a NIfTI pair, whose voxels, {stem}.img or {stem}.img.gz, "
            "are missing. Put them beside it."
        )
    return found


def find_header(voxels: Path) -> Path | None:
    """Return the header of a file of voxels; None if it is not part of a pair."""
    stem = _stem(voxels, _VOXELS)
    for end in _HEADERS if stem else ():
        header = voxels.with_name(stem + end)
        if header.is_file() and _begins_pair(header):
            return header
    return None


def _stem(path: Path, ends: tuple[str, ...]) -> str:
    """Return a name without one of several endings; empty if it has none of them."""
    return next((path.name.removesuffix(end) for end in ends if path.name.endswith(end)), "")


def _begins_pair(path: Path) -> bool:
    try:
        head = read_beginning(path, 348)
    except FormatError:
        return False
    return head[344:348] in _PAIR or head[4:8] in _PAIR
