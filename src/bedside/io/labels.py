"""Labels on the grid of their source, as a file, bytes or a Dataset."""

import contextlib
import gzip
import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from bedside.io.even_grid import find_even_grid
from bedside.io.formats import find_label_format, label_formats, load
from bedside.io.opened import Algorithm, Source
from bedside.system.atomic import written_atomically
from bedside.volume import ImageSequence, LabelMap

if TYPE_CHECKING:
    from pydicom import Dataset

    from bedside.spec import Label

# Labels are long runs of one value: higher levels take longer and save next to nothing.
_GZIP_LEVEL = 2

SUFFIXES = {each.name: each.suffix for each in label_formats().values()}
"""The suffix of a file in each format of labels."""


def default_format(source: Source) -> str:
    """Return the default format for the labels of an image."""
    return find_label_format("auto", source.kind, source.path).name


def write_labels(
    labels: LabelMap,
    source: Source,
    target: Path,
    *,
    labels_spec: tuple["Label", ...],
    algorithm: Algorithm,
    format: str,  # noqa: A002
) -> Path:
    """Write labels on the grid of their source; the file is complete or absent.

    Args:
        labels: (frames, height, width), on the source's grid.
        source: The segmented image.
        target: The file to write; compressed if its name ends in .gz. Labels of several frames
            as "png" become a folder of this name without its suffix, one file a frame.
        labels_spec: Names, colours and codes of the labels.
        algorithm: Name and version of the bundle. If it is untrained, the names of labels say so.
        format: Its name in `bedside.io.formats`, such as "dicom-seg" or "nifti"; "auto" for that
            of the source.

    Returns:
        The file or folder written.

    Raises:
        UsageError: If the format is unknown, or is of DICOM and the source is not.
        OutputError: If it cannot be written.
    """
    row = find_label_format(format, source.kind, source.path)
    labels_spec = _mark_untrained(labels_spec, algorithm)
    target = Path(target)
    if row.write is not None:
        written: Path = load(row.write)(labels, target, labels_spec=labels_spec)
        return written
    with (
        written_atomically(target) as temporary,
        temporary.open("wb") as plain,
        compressed(plain, target.name) as file,
    ):
        load(row.encode)(labels, source, file, labels_spec=labels_spec, algorithm=algorithm)
    return target


def encode_labels(
    labels: LabelMap,
    source: Source,
    *,
    labels_spec: tuple["Label", ...],
    algorithm: Algorithm,
    format: str = "auto",  # noqa: A002
) -> bytes:
    """Return the bytes of the file that `write_labels` writes, without a file.

    Raises:
        UsageError: As `write_labels`, or if the format holds one frame and there are several.
    """
    row = find_label_format(format, source.kind, source.path)
    labels_spec = _mark_untrained(labels_spec, algorithm)
    whole = io.BytesIO()
    with compressed(whole, row.suffix) as file:
        load(row.encode)(labels, source, file, labels_spec=labels_spec, algorithm=algorithm)
    return whole.getvalue()


def describe_even_grid(sequence: ImageSequence, format_: str) -> list[str]:
    """Return a warning if a mask has other slices than its source."""
    row = label_formats()[format_]
    grid = find_even_grid(sequence) if row.even_slices else None
    if grid is None:
        return []
    return [
        f"{row.title} holds even slices only: the mask has {len(grid.owners)} of "
        f"{grid.step_mm:.4g} mm, on which the labels of each of the scan's {len(sequence)} are "
        "repeated. Choose dicom-seg for a mask on the slices themselves"
    ]


def to_dicom_seg(
    labels: LabelMap,
    source: Source,
    *,
    labels_spec: tuple["Label", ...],
    algorithm: Algorithm,
    as_labelmap: bool = False,
) -> "Dataset":
    """Return labels as the pydicom Dataset of a DICOM SEG, without a file.

    Args:
        labels: (frames, height, width), on the source's grid.
        source: The DICOM image that was segmented.
        labels_spec: Names, colours and codes of the labels.
        algorithm: Name and version of the bundle.
        as_labelmap: LABELMAP frames instead of BINARY ones.

    Raises:
        UsageError: If the source is not DICOM.
        FormatError: If the source lacks the UIDs that a reference needs.
    """
    find_label_format("dicom-seg", source.kind, source.path)
    from bedside.io.dicom.seg import build_seg

    labels_spec = _mark_untrained(labels_spec, algorithm)
    return build_seg(
        labels, source, labels_spec=labels_spec, algorithm=algorithm, as_labelmap=as_labelmap
    )


@contextlib.contextmanager
def compressed(file: BinaryIO, name: str) -> Iterator[BinaryIO]:
    """Yield the file itself, or a gzip writer into it if the name ends in .gz."""
    if not name.endswith(".gz"):
        yield file
        return
    # Without a name and a time: the same labels give the same bytes.
    with gzip.GzipFile("", "wb", compresslevel=_GZIP_LEVEL, fileobj=file, mtime=0) as packed:
        yield cast("BinaryIO", packed)


def _mark_untrained(labels_spec: tuple["Label", ...], algorithm: Algorithm) -> tuple["Label", ...]:
    """Return labels whose names say that an untrained network drew them."""
    if not algorithm.untrained:
        return labels_spec
    return tuple(replace(label, name=f"{label.name[:50]} (untrained)") for label in labels_spec)
