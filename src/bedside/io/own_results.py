"""Marks by which results of this program are known again, and are not segmented in their turn.

Each result folder has a marker file that lists its results; masks and pictures also say so in
their own headers, because they are copied elsewhere.
"""

import json
import re
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

from bedside.system.atomic import write_text
from bedside.system.regular_files import open_regular
from bedside.version import __version__

MARKER = ".bedside-results.json"
"""The file in a result folder that lists its results."""

_RESULT_NAME = re.compile(
    r"segmentation(\.[a-z.]+)?|measurements\.dcm|overlay\.(gif|png)|contact_sheet\.png"
    r"|report\.(json|html)|probabilities\.(npz|nii\.gz)"
)

NIFTI_DESCRIPTION = b"bedside labels"
"""How `descrip` begins in a NIfTI header of ours."""

PNG_KEY, PNG_TEXT = "bedside", "result"
"""Keyword and text of the tEXt chunk in a PNG of ours."""

_WHY = "is a result of bedside, as its header says"
_MOST_BYTES = 2**20
_PNG_BEGINNING = 33  # The signature and the chunk IHDR.


def write_marker(folder: Path, names: Iterable[str]) -> None:
    """Write the marker file of a result folder; the same results give the same bytes.

    Args:
        folder: The folder.
        names: Its results.

    Raises:
        OutputError: If it cannot be written.
    """
    marker = {"bedside_version": __version__, "files": sorted(names)}
    write_text(folder / MARKER, json.dumps(marker, indent=1) + "\n")


def is_result_name(name: str) -> bool:
    """Whether a file of a result folder may have that name.

    Masks have the suffix of their format; "segmentation" is a folder of PNG files.

    Example:
        >>> [is_result_name(name) for name in ("segmentation.seg.nrrd", "overlay.png", "a.png")]
        [True, True, False]
    """
    return _RESULT_NAME.fullmatch(name) is not None


def read_marker(folder: Path) -> frozenset[str]:
    """Names of the results that a folder holds; none if it holds no results of ours.

    Of folders written before there were markers, `report.json` says it.
    """
    for name in (MARKER, "report.json"):
        try:
            with open_regular(folder / name) as file:
                listed = json.loads(file.read(_MOST_BYTES))
            if "bedside_version" in listed:
                return frozenset(filter(is_result_name, listed["files"]))
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue
    return frozenset()


def why_own_png(head: bytes) -> str | None:
    """That a PNG is a result of ours, by its first kilobytes; else None."""
    chunk = f"tEXt{PNG_KEY}\0{PNG_TEXT}".encode()
    own = head.startswith(b"\x89PNG") and chunk in head.partition(b"IDAT")[0]
    return _WHY if own else None


def why_own_nifti(head: bytes) -> str | None:
    """That a NIfTI file is a result of ours, by its inflated header; else None."""
    second = head[:4] in (b"\x1c\x02\0\0", b"\0\0\x02\x1c")
    own = head[240 if second else 148 :].startswith(NIFTI_DESCRIPTION)
    return _WHY if own else None


def mark_png(png: bytes) -> bytes:
    """An encoded PNG with a chunk that makes it known as a result of ours."""
    body = b"tEXt" + f"{PNG_KEY}\0{PNG_TEXT}".encode()
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return png[:_PNG_BEGINNING] + chunk + png[_PNG_BEGINNING:]
