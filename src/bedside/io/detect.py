"""What a file is, by its first bytes and never by its name."""

import re
import zlib
from pathlib import Path
from typing import Literal

from bedside.errors import FormatError
from bedside.io.dicom.bare import has_prefix, is_bare_dicom
from bedside.io.gzip_stream import read_beginning
from bedside.io.known_forms import name_form
from bedside.io.metaimage.header import is_metaimage
from bedside.io.nifti.pair import find_header
from bedside.io.nrrd.header import is_nrrd
from bedside.io.own_results import is_own_nifti, is_own_png
from bedside.system.regular_files import open_regular

Kind = Literal["dicom", "nifti", "picture", "metaimage", "nrrd"]

EXPECTED = "expected DICOM (a file with DICM at byte 128), NIfTI, MetaImage, NRRD, PNG or JPEG"
"""The end of the message about a file of none of these kinds."""

# Storage classes without an image to segment, by what follows 1.2.840.10008.
_NO_IMAGE = {
    b"1.3.10": "a DICOMDIR, an index of files",
    b"5.1.4.1.1.66": "a DICOM segmentation",
    b"5.1.4.1.1.88": "a structured report",
    b"5.1.4.1.1.11": "a presentation state",
    b"5.1.4.1.1.9": "a waveform",
    b"5.1.4.1.1.104": "an encapsulated document",
    b"5.1.4.1.1.481": "a radiotherapy structure set, plan or record",
}
# The class as file meta information or the data set itself states it, with or without a VR.
_CLASS = re.compile(
    rb"(?:\x02\0\x02\0|\x08\0\x16\0)(?:UI..|..\0\0)1\.2\.840\.10008\."
    rb"(1\.3\.10|5\.1\.4\.1\.1\.(?:66|88|11|9|104|481(?=\.[3-9])))(?:\.|\0|\x02|\x08|$)",
    re.DOTALL,
)
_SEGMENTS = re.compile(rb"\nSegment(?:\d+|ation)_")


def detect_format(path: Path) -> Kind:
    """The kind of a file, by its first bytes.

    Raises:
        FormatError: If it cannot be read, is empty, or is of no kind that is understood.
    """
    try:
        with open_regular(path) as file:
            head = file.read(1024)
    except OSError as error:
        raise FormatError(f"cannot read {path}: {error.strerror or error}.") from error
    if not head:
        raise FormatError(f"{path} is empty; {EXPECTED}.")
    if has_prefix(head):
        return "dicom"
    if head.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")):
        return "picture"
    inflated = _inflate_head(path, head)
    if is_nifti(inflated):
        return "nifti"
    if is_metaimage(head):
        return "metaimage"
    if is_nrrd(head):
        return "nrrd"
    if is_bare_dicom(head):
        return "dicom"
    raise FormatError(_name_stranger(path, head, inflated))


def _inflate_head(path: Path, head: bytes) -> bytes:
    """The first bytes of what a gzip file holds, as far as they go; others as they are.

    Raises:
        OSError: If the file cannot be read.
    """
    if not head.startswith(b"\x1f\x8b"):
        return head
    try:
        return read_beginning(path, 1024)
    except FormatError:
        pass
    try:
        # Cut off within the first bytes: what there is tells the kind all the same.
        return zlib.decompressobj(31).decompress(head, 1024)
    except zlib.error:
        return b""


def is_nifti(head: bytes) -> bool:
    """Whether a file begins as a NIfTI-1 or NIfTI-2 header does, in either byte order."""
    return head[:4] in (b"\x5c\x01\0\0", b"\0\0\x01\x5c", b"\x1c\x02\0\0", b"\0\0\x02\x1c")


def _name_stranger(path: Path, head: bytes, inflated: bytes) -> str:
    """The message about a file of no kind that is read: its form, if that is known."""
    if inflated is not head:
        if is_metaimage(inflated) or is_nrrd(inflated):
            return f"{path} is compressed as a whole, which only NIfTI is read from. Unpack it."
        form = name_form(inflated)
        within = f"what it holds {form}" if form else f"it holds no NIfTI; {EXPECTED}."
        return f"{path} is a gzip file, and {within}"
    header = find_header(path)
    if header is not None:
        return f"{path} holds the voxels of {header.name} beside it. Name that file instead."
    form = name_form(head)
    if form:
        return f"{path} {form}"
    return f"{path} is no image: it begins with {head[:12]!r}; {EXPECTED}."


def why_no_image(path: Path, kind: Kind) -> str | None:
    """What a file is that is no image to segment, although its format could hold one.

    Args:
        path: The file.
        kind: Its format.

    Returns:
        Such as "is a DICOM segmentation", or None. Masks and pictures that this program has
        written are known by their headers, wherever they lie.

    Raises:
        OSError: If it cannot be read.
    """
    with open_regular(path) as file:
        head = file.read(4096)
    if kind == "dicom":
        found = _CLASS.search(head)
        return found and f"is {_NO_IMAGE[found[1]]}"
    if kind == "nrrd":
        return "is a segmentation (.seg.nrrd)" if _SEGMENTS.search(head) else None
    own = is_own_nifti(_inflate_head(path, head)) if kind == "nifti" else is_own_png(head)
    return "is a result of bedside, as its header says" if own else None
