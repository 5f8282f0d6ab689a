"""Single images of a series as the frames of one cine."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from bedside.errors import FormatError, GeometryError
from bedside.io.dicom.calibration import read_calibration
from bedside.io.dicom.checks import check_grid
from bedside.io.dicom.cine import describe_values, make_timed
from bedside.io.dicom.gaps import describe_copies
from bedside.io.dicom.header import DicomInstances
from bedside.io.dicom.options import DicomOptions
from bedside.io.dicom.runs import (
    Order,
    find_differences,
    find_identity,
    find_order,
    read_instance_numbers,
    read_run_times,
)
from bedside.io.dicom.slice_files import SliceFile, make_decoder, order_headers, read_rules
from bedside.io.dicom.values import with_one_dtype
from bedside.volume import ImageSequence


def open_sequence(
    files: Sequence[SliceFile], notes: Sequence[str], path: Path, max_bytes: int,
    options: DicomOptions,
) -> tuple[ImageSequence, DicomInstances]:  # fmt: skip
    """Return images as the frames of a cine; each file is read when its frame is requested.

    Args:
        files: The images with their headers.
        notes: Warnings about files that are left out.
        path: Name for errors.
        max_bytes: A larger file, or a larger cine, is refused before decoding.
        options: Options for headers that are incomplete.

    Raises:
        FormatError: If they show different views, or one cannot be decoded.
        GeometryError: If they have no order.
    """
    files, doubled = _drop_copies(files, max_bytes)
    headers = [one.header for one in files]
    different = find_differences(headers)
    if different:
        raise FormatError(
            f"{path}: its {len(files)} images differ in {', '.join(different)}, so they are not "
            "the frames of one cine. Name one file."
        )
    order = find_order(headers)
    if order is None:
        raise GeometryError(
            f"{files[0].path} and the files beside it have no positions and no order in time: "
            "their times and InstanceNumber are missing or the same. Name one file."
        )
    ordered = [files[index] for index in order.indices]
    first = ordered[0].header
    channels = check_grid(first, ordered[0].path, frames=len(ordered), max_bytes=max_bytes)
    rules = with_one_dtype(read_rules(ordered, options))

    def decode(index: int) -> np.ndarray:
        return rules[index].apply(make_decoder(ordered[index].path, max_bytes)(0))

    sequence = make_timed(
        first,
        (len(ordered), channels),
        decode,
        calibration=read_calibration(first),
        times=read_run_times(first, order),
        notes=describe_values(first, rules[0], make_decoder(ordered[0].path, max_bytes)),
    )
    warnings = (*notes, *doubled, *_describe_order(order, ordered), *sequence.warnings)
    sequence = replace(sequence, warnings=warnings)
    return sequence, order_headers(ordered, range(len(ordered)), max_bytes)


def _drop_copies(files: Sequence[SliceFile], max_bytes: int) -> tuple[list[SliceFile], list[str]]:
    """Drop copies of images."""
    kept: list[SliceFile] = []
    originals: dict[tuple[str, ...], SliceFile] = {}
    for one in files:
        identity = find_identity(one.header)
        original = originals.setdefault(identity, one) if identity else one
        if original is one or not _are_equal(original, one, max_bytes):
            kept.append(one)
    gone = len(files) - len(kept)
    return kept, [describe_copies(gone, "image")] if gone else []


def _are_equal(one: SliceFile, other: SliceFile, max_bytes: int) -> bool:
    first, second = (make_decoder(each.path, max_bytes)(0) for each in (one, other))
    return np.array_equal(first, second)


def _describe_order(order: Order, ordered: Sequence[SliceFile]) -> list[str]:
    """Return warnings about what was joined, and in which order."""
    notes = [
        f"{len(ordered)} single images of one series were taken as the frames of one cine, in the "
        f"order of their {order.by}",
        *order.notes,
    ]
    if order.moments_ms is None:
        notes.append(
            "they say no times: if they are stills of different views, segment each by itself"
        )
    numbers = read_instance_numbers([one.header for one in ordered])
    gaps = sorted(set(range(min(numbers, default=0), max(numbers, default=-1))) - set(numbers))
    if gaps and len(gaps) < len(ordered):
        shown = ", ".join(map(str, gaps[:8])) + (" ..." if gaps[8:] else "")
        notes.append(f"images may be missing: no file has InstanceNumber {shown}")
    return notes
