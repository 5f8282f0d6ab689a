"""One file of a known format, opened through the table of formats."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bedside.io.dicom.options import DicomOptions
from bedside.io.formats import FORMATS, load
from bedside.volume import ImageSequence


def open_file(
    path: Path,
    kind: str,
    *,
    dicom: DicomOptions | None = None,
    select: Mapping[str, int] | None = None,
    as_labels: bool = False,
) -> tuple[ImageSequence, Any]:
    """Open a file of a known format.

    Args:
        path: The file.
        kind: Its format, as `bedside.io.detect.detect_format` finds it.
        dicom: Options for DICOM headers that are incomplete.
        select: Which of several images in it, counted from 1.
        as_labels: Whether it holds labels.

    Returns:
        The frames and the header; see `bedside.io.opened.Source`.

    Raises:
        FormatError: If it is damaged, or holds several images of which none is selected.
        OSError: If it cannot be read.
    """
    options = {"options": dicom} if kind == "dicom" else {}
    row = FORMATS[kind]
    name = row.open_labels if as_labels and row.open_labels else row.open
    opened: tuple[ImageSequence, Any] = load(name)(path, select=select, **options)
    return opened
