"""What a file is, by its first bytes and never by its name."""

import re
import zlib
from pathlib import Path
from typing import Literal

from bedside.errors import FormatError
from bedside.io.metaimage import is_metaimage
from bedside.io.nrrd_header import is_nrrd

Kind = Literal["dicom", "nifti", "picture", "metaimage", "nrrd"]

EXPECTED = "expected DICOM (a file with DICM at byte 128), NIfTI, MetaImage, NRRD, PNG or JPEG"
"""The end of the message about a file of none of these kinds."""

# Storage classes without an image to segment: DICOMDIR, segmentations, reports, plans.
_NO_IMAGE = re.compile(
    rb"\x02\x00\x02\x00UI..(?:1\.2\.840\.10008\.1\.3\.10|"
    rb"1\.2\.840\.10008\.5\.1\.4\.1\.1\.(?:66|88|11|9|104|481\.[3-9])(?:\.|\0|\x02))",
    re.DOTALL,
)


def detect_format(path: Path) -> Kind:
    """The kind of a file, by its first bytes.

    Raises:
        FormatError: If it cannot be read, is empty, or is of no kind that is understood.
    """
    try:
        with path.open("rb") as file:
            head = file.read(1024)
    except OSError as error:
        raise FormatError(f"cannot read {path}: {error.strerror or error}.") from error
    if not head:
        raise FormatError(f"{path} is empty; {EXPECTED}.")
    if head[128:132] == b"DICM":
        return "dicom"
    if head.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")):
        return "picture"
    if _is_nifti(_inflate_head(head) if head.startswith(b"\x1f\x8b") else head):
        return "nifti"
    if is_metaimage(head):
        return "metaimage"
    if is_nrrd(head):
        return "nrrd"
    raise FormatError(f"{path} is no image: it begins with {head[:12]!r}; {EXPECTED}.")


def _inflate_head(head: bytes) -> bytes:
    """Inflate the first bytes of a gzip file, as far as they go."""
    try:
        return zlib.decompressobj(31).decompress(head, 1024)
    except zlib.error:
        return b""


def _is_nifti(head: bytes) -> bool:
    """Tell a NIfTI-1 or NIfTI-2 header, in either byte order, by its declared length."""
    return head[:4] in (b"\x5c\x01\0\0", b"\0\0\x01\x5c", b"\x1c\x02\0\0", b"\0\0\x02\x1c")


def holds_no_image(path: Path) -> bool:
    """Tell a DICOM file of a class without an image, by its file meta information, or a mask.

    A .seg.nrrd file is told by the first of the keys that name its segments.
    """
    with path.open("rb") as file:
        head = file.read(4096)
    if is_nrrd(head):
        return b"\nSegment0_" in head
    return _NO_IMAGE.search(head[132:1024]) is not None
