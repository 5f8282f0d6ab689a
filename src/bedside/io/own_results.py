"""Marks on results of this program, which are not segmented again.

A marker file in each result folder lists its results; masks and pictures also have a mark in
their own headers, because they get copied elsewhere.
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
    """Write the marker file of a result folder; equal results give equal bytes.

    Args:
        folder: The folder.
        names: Names of its results.

    Raises:
        OutputError: If it cannot be written.
    """
    marker = {"bedside_version": __version__, "files": sorted(names)}
    write_text(folder / MARKER, json.dumps(marker, indent=1) + "\n")


def is_result_name(name: str) -> bool:
    """Whether a result may have this file name.

    Masks have the suffix of their format; "segmentation" is a folder of PNG files.

    Example:
        >>> [is_result_name(name) for name in ("segmentation.seg.nrrd", "overlay.png", "a.png")]
        [True, True, False]
    """
    return _RESULT_NAME.fullmatch(name) is not None


def read_marker(folder: Path) -> frozenset[str]:
    """Return the names of the results in a folder; empty if it holds none.

    In folders from before markers existed, `report.json` lists them.
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
    """Return the reason to skip a PNG that is a result, by its first bytes; else None."""
    chunk = f"tEXt{PNG_KEY}\0{PNG_TEXT}".encode()
    own = head.startswith(b"\x89PNG") and chunk in head.partition(b"IDAT")[0]
    return _WHY if own else None


def why_own_nifti(head: bytes) -> str | None:
    """Return the reason to skip a NIfTI file that is a result, by its header; else None."""
    second = head[:4] in (b"\x1c\x02\0\0", b"\0\0\x02\x1c")
    own = head[240 if second else 148 :].startswith(NIFTI_DESCRIPTION)
    return _WHY if own else None


def mark_png(png: bytes) -> bytes:
    """Return an encoded PNG with the mark of a result."""
    body = b"tEXt" + f"{PNG_KEY}\0{PNG_TEXT}".encode()
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return png[:_PNG_BEGINNING] + chunk + png[_PNG_BEGINNING:]
