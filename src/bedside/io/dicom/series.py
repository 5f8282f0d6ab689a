"""Files of a DICOM series as one scan, cine or concatenation."""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from bedside.errors import FormatError, GeometryError
from bedside.io.dicom.checks import check_grid
from bedside.io.dicom.cine import describe_loss, open_dicom
from bedside.io.dicom.files import MAX_BYTES, pydicom_errors, read_header
from bedside.io.dicom.gaps import describe_copies
from bedside.io.dicom.header import DicomInstances
from bedside.io.dicom.options import DicomOptions
from bedside.io.dicom.parts import PART_TAGS, is_part
from bedside.io.dicom.pixels import describe_stray_bits
from bedside.io.dicom.runs import IN_TIME, lie_in_stack
from bedside.io.dicom.sequence import open_sequence
from bedside.io.dicom.slice_files import (
    PLACE,
    SliceFile,
    check_shared,
    make_decoder,
    order_headers,
    read_numbers,
    read_rules,
    read_slices,
)
from bedside.io.dicom.slices import make_scan
from bedside.io.dicom.stack import Plane, check_alike, find_duplicates, is_seam, read_plane
from bedside.io.select import choose_place
from bedside.volume import ImageSequence


def open_series(
    files: Sequence[Path], *, path: Path, max_bytes: int = MAX_BYTES,
    options: DicomOptions | None = None, select: Mapping[str, int] | None = None,
) -> tuple[ImageSequence, DicomInstances]:  # fmt: skip
    """Open several files as one image: a scan, a cine, or the parts of a concatenation.

    Ultrasound, fluoroscopy and endoscopy without a stack are a cine in the order of time;
    everything else is sorted by position alone. A file is read when its slice is requested.

    Args:
        files: In any order; truncated ones count as missing.
        path: Name for errors.
        max_bytes: A larger file, or a larger scan, is refused before decoding.
        options: Options for gaps, and for CT without a rescale.
        select: Which of several scans in the parts of a concatenation.

    Returns:
        The frames, and their headers in the same order.

    Raises:
        FormatError: If a file is damaged, or they are not of one series.
        GeometryError: If slices are or may be missing.
    """
    options = options or DicomOptions()
    if _are_parts(files):
        return open_dicom(path, files=files, max_bytes=max_bytes, options=options, select=select)
    choose_place(select, {}, path)
    with pydicom_errors(path):
        return _open(files, path, max_bytes, options)


def _are_parts(files: Sequence[Path]) -> bool:
    """Whether files are parts of a concatenation, by the first readable one."""
    for file in files:
        with contextlib.suppress(FormatError, OSError), pydicom_errors(file):
            return is_part(read_header(file, MAX_BYTES, tags=PART_TAGS))
    return False


def _open(
    files: Sequence[Path], path: Path, max_bytes: int, options: DicomOptions
) -> tuple[ImageSequence, DicomInstances]:
    """Read, check and sort the files of a series."""
    slices, notes = read_slices(files, path, max_bytes)
    first = slices[0].header
    check_shared(slices)
    headers = [one.header for one in slices]
    if str(first.get("Modality")) in IN_TIME and not lie_in_stack(headers):
        return open_sequence(slices, notes, path, max_bytes, options)
    channels = check_grid(first, slices[0].path, frames=len(slices), max_bytes=max_bytes)
    planes = [_read_plane(one) for one in slices]
    check_alike(planes)
    slices, planes, doubled = _drop_duplicates(slices, planes, path, max_bytes)
    rules = read_rules(slices, options)
    stray = describe_stray_bits(make_decoder(slices[0].path, max_bytes))
    try:
        sequence, order = make_scan(
            planes,
            rules,
            lambda index: make_decoder(slices[index].path, max_bytes)(0),
            dataset=first,
            options=options,
            path=path,
        )
    except GeometryError as error:
        if not notes:
            raise
        raise GeometryError(f"{error} ({'; '.join(notes)})") from error
    warnings = (*notes, *doubled, *sequence.warnings, *stray, *describe_loss(first))
    shape = (len(sequence), channels, *sequence.shape[2:])
    return replace(sequence, shape=shape, warnings=warnings), order_headers(
        slices, order, max_bytes
    )


def _read_plane(one: SliceFile) -> Plane:
    """Return the place and thickness of a slice."""
    return read_plane(
        *(read_numbers(one, keyword) for keyword in PLACE),
        name=one.path.name,
        thickness=read_numbers(one, "SliceThickness"),
        between=read_numbers(one, "SpacingBetweenSlices"),
        acquisition=one.header.get("AcquisitionNumber"),
    )


def _drop_duplicates(
    slices: list[SliceFile], planes: list[Plane], path: Path, max_bytes: int
) -> tuple[list[SliceFile], list[Plane], list[str]]:
    """Drop copies of slices; refuse different slices at one place within a block."""
    pairs = find_duplicates(planes)
    if len(slices) > 1 and len(pairs) == len(slices) - 1:
        raise GeometryError(
            f"{path}: all {len(slices)} images lie at one place, and are no scan. Name one file."
        )
    pairs = [pair for pair in pairs if not is_seam(planes, *pair)]
    for kept, dropped in pairs:
        one, other = (make_decoder(slices[index].path, max_bytes)(0) for index in (kept, dropped))
        if not np.array_equal(one, other):
            raise GeometryError(
                f"{slices[kept].path} and {slices[dropped].path.name} lie at one place and "
                "differ: several points in time, echoes or reconstructions. Put each in a "
                "folder of its own."
            )
    gone = {dropped for _, dropped in pairs}
    kept_indices = [index for index in range(len(slices)) if index not in gone]
    notes = [describe_copies(len(gone), "slice")] if gone else []
    return [slices[i] for i in kept_indices], [planes[i] for i in kept_indices], notes
