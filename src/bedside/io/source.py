"""Opening of images in any supported format, recognised by content."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from bedside.errors import BedsideError, FormatError
from bedside.io.detect import detect_format
from bedside.io.dicom.options import DicomOptions
from bedside.io.discovery import DiscoveredImages, find_sources
from bedside.io.formats import FORMATS, load
from bedside.io.given import DatasetPath, Given, name_given
from bedside.io.labels import SUFFIXES, default_format, encode_labels, write_labels
from bedside.io.open_file import open_file
from bedside.io.opened import Algorithm, Source

__all__ = [
    "SUFFIXES", "Algorithm", "Source", "default_format", "encode_labels", "find_sources",
    "open_source", "write_labels",
]  # fmt: skip


def open_source(
    given: "Given | Sequence[Given]",
    *,
    files: Sequence[Path] = (),
    dicom: DicomOptions | None = None,
    select: Mapping[str, int] | None = None,
    as_labels: bool = False,
) -> Source:
    """Open one image: a file, or a DICOM series.

    Args:
        given: The path of a file, or of the folder of a single DICOM series; the bytes of a file,
            an open binary file, or a pydicom Dataset, which is not changed; or a list of those
            that are the slices or frames of one series.
        files: The files of a series, as `find_sources` lists them for a path.
        dicom: Options for DICOM headers that are incomplete.
        select: Which time, channel or stack of a file that has several, counted from 1:
            {"time": 3}.
        as_labels: Whether it holds labels: numbers of a PNG's palette of colours are kept.

    Raises:
        FormatError: If it is not a supported image, is damaged, or has several times or channels
            of which none is selected; or if it is a folder with several images.
        GeometryError: If it is a series with missing or uneven slices.
        UsageError: If an object of another type is given.
    """
    path, listed = name_given(given)
    files = files or listed
    if path.is_dir() and not files:
        files = _only_series(path)
    try:
        if files:
            series = next(row for row in FORMATS.values() if row.open_series)
            sequence, header = load(series.open_series or "")(
                files, path=path, options=dicom, select=select
            )
            return Source(path, series.name, sequence, header, files=tuple(files))
        kind = "dicom" if isinstance(path, DatasetPath) else detect_format(path)
        sequence, header = open_file(path, kind, dicom=dicom, select=select, as_labels=as_labels)
        return Source(path, kind, sequence, header, files=(path,))
    except BedsideError:
        raise
    except OSError as error:
        raise FormatError(f"cannot read {path}: {error.strerror or error}.") from error


def _only_series(folder: Path) -> tuple[Path, ...]:
    """Return the files of the only DICOM series in a folder."""
    found = find_sources(folder)
    if len(found.paths) == 1 and found.files:
        return found.files[found.paths[0]]
    listed = "; ".join(_describe(path, found) for path in found.paths[:8])
    more = f"; and {len(found.paths) - 8} more" if found.paths[8:] else ""
    raise FormatError(
        f"{folder} is a folder of {len(found.paths)} images and not of one DICOM series: "
        f"{listed}{more}. Name one of them, or give each series a folder."
    )


def _describe(path: Path, found: DiscoveredImages) -> str:
    """Return the name of a case and its number of files."""
    return f"{path} ({len(found.files[path])} slices)" if path in found.files else str(path)
