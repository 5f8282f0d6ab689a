"""File formats, recognised by the first bytes of a file and never by its name."""

import zlib
from pathlib import Path

from bedside.errors import FormatError
from bedside.io.formats import FORMATS, expected, load
from bedside.io.gzip_stream import read_beginning
from bedside.io.known_forms import name_form
from bedside.io.nifti.pair import find_header
from bedside.system.regular_files import open_regular

_HEAD_BYTES, _LONG_HEAD_BYTES = 1024, 4096


def detect_format(path: Path) -> str:
    """Return the name of a file's format in `bedside.io.formats`.

    Raises:
        FormatError: If it cannot be read, is empty, or is of no supported format.
    """
    try:
        with open_regular(path) as file:
            head = file.read(_HEAD_BYTES)
    except OSError as error:
        raise FormatError(f"cannot read {path}: {error.strerror or error}.") from error
    if not head:
        raise FormatError(f"{path} is empty; {expected()}.")
    inflated = _inflate_head(path, head)
    for row in FORMATS.values():
        if row.matches(inflated if row.gzipped else head):
            return row.name
    raise FormatError(_describe_unknown(path, head, inflated))


def _inflate_head(path: Path, head: bytes) -> bytes:
    """Return the first bytes of a gzip file's content; of other files the bytes as they are."""
    if not head.startswith(b"\x1f\x8b"):
        return head
    try:
        return read_beginning(path, _HEAD_BYTES)
    except FormatError:
        pass
    try:
        # Truncated within the first bytes, which may still show the format.
        return zlib.decompressobj(31).decompress(head, _HEAD_BYTES)
    except zlib.error:
        return b""


def _describe_unknown(path: Path, head: bytes, inflated: bytes) -> str:
    """Return the message about a file of an unsupported format, by name if it is known."""
    if inflated is not head:
        gzipped = " and ".join(row.title for row in FORMATS.values() if row.gzipped)
        if any(row.matches(inflated) for row in FORMATS.values()):
            return f"{path} is compressed as a whole, which only {gzipped} is read from. Unpack it."
        form = name_form(inflated)
        within = f"what it holds {form}" if form else f"it holds no {gzipped}; {expected()}."
        return f"{path} is a gzip file, and {within}"
    header = find_header(path)
    if header is not None:
        return f"{path} holds the voxels of {header.name} beside it. Name that file instead."
    form = name_form(head)
    if form:
        return f"{path} {form}"
    return f"{path} is no image: it begins with {head[:12]!r}; {expected()}."


def why_no_image(path: Path, kind: str) -> str | None:
    """Return why a file of a supported format is no image to segment.

    Args:
        path: The file.
        kind: Its format.

    Returns:
        Such as "is a DICOM segmentation"; None for an image. Results of this program are
        recognised by marks in their headers.

    Raises:
        OSError: If it cannot be read.
    """
    row = FORMATS[kind]
    if row.why_no_image is None:
        return None
    with open_regular(path) as file:
        head = file.read(_LONG_HEAD_BYTES)
    why: str | None = load(row.why_no_image)(_inflate_head(path, head) if row.gzipped else head)
    return why
