"""The table of formats: what opens a file of each kind, loaded when it is asked for."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bedside.io.detect import Kind
from bedside.io.dicom.options import DicomOptions
from bedside.io.select import choose_place
from bedside.volume import ImageSequence


def open_file(
    path: Path,
    kind: Kind,
    *,
    dicom: DicomOptions | None = None,
    select: Mapping[str, int] | None = None,
) -> tuple[ImageSequence, Any]:
    """Open one file of a known kind.

    Args:
        path: The file.
        kind: Its format, as `bedside.io.detect.detect_format` finds it.
        dicom: What to do where DICOM headers leave something open.
        select: Which of several images in it, counted from 1.

    Returns:
        Its frames, and its header; see `bedside.io.source.Source`.

    Raises:
        FormatError: If it is damaged, or holds several images of which none is selected.
        OSError: If it cannot be read.
    """
    if kind == "dicom":
        from bedside.io.dicom.cine import open_dicom

        return open_dicom(path, options=dicom, select=select)
    if kind == "nifti":
        from bedside.io.nifti.file import open_nifti

        return open_nifti(path, select=select)
    if kind == "nrrd":
        from bedside.io.nrrd.file import open_nrrd

        return open_nrrd(path, select=select)
    if kind == "metaimage":
        from bedside.io.metaimage.file import open_metaimage

        return open_metaimage(path, select=select)
    choose_place(select, {}, path)
    from bedside.io.raster import open_picture

    return open_picture(path), None
