"""Marks by which results of this program are known again, and are not segmented in their turn.

Each result folder has a marker file that lists its results; masks and pictures also say so in
their own headers, because they are copied elsewhere.
"""

import json
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

from bedside import __version__
from bedside.system.atomic import write_text
from bedside.system.regular_files import open_regular

MARKER = ".bedside-results.json"
"""The file in a result folder that lists its results."""

RESULT_NAMES = frozenset({
    "segmentation", "segmentation.dcm", "segmentation.nii.gz", "segmentation.png",
    "segmentation.seg.nrrd", "measurements.dcm",
    "overlay.gif", "overlay.png", "contact_sheet.png", "report.json", "report.html",
})  # fmt: skip
"""Names that a case's results may have; "segmentation" is a folder of PNG files."""

NIFTI_DESCRIPTION = b"bedside labels"
"""How `descrip` begins in a NIfTI header of ours."""

PNG_KEY, PNG_TEXT = "bedside", "result"
"""Keyword and text of the tEXt chunk in a PNG of ours."""

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


def read_marker(folder: Path) -> frozenset[str]:
    """Names of the results that a folder holds; none if it holds no results of ours.

    Of folders written before there were markers, `report.json` says it.
    """
    for name in (MARKER, "report.json"):
        try:
            with open_regular(folder / name) as file:
                listed = json.loads(file.read(_MOST_BYTES))
            if "bedside_version" in listed:
                return frozenset(listed["files"]) & RESULT_NAMES
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            continue
    return frozenset()


def is_own_png(head: bytes) -> bool:
    """Whether a PNG is a result of ours, by its first kilobytes."""
    chunk = f"tEXt{PNG_KEY}\0{PNG_TEXT}".encode()
    return head.startswith(b"\x89PNG") and chunk in head.partition(b"IDAT")[0]


def is_own_nifti(head: bytes) -> bool:
    """Whether a NIfTI file is a result of ours, by its inflated header."""
    second = head[:4] in (b"\x1c\x02\0\0", b"\0\0\x02\x1c")
    return head[240 if second else 148 :].startswith(NIFTI_DESCRIPTION)


def mark_png(png: bytes) -> bytes:
    """An encoded PNG with a chunk that makes it known as a result of ours."""
    body = b"tEXt" + f"{PNG_KEY}\0{PNG_TEXT}".encode()
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return png[:_PNG_BEGINNING] + chunk + png[_PNG_BEGINNING:]
