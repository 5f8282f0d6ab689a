"""Opens the files of a DICOM series as one scan, its slices in the order of the patient."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from bedside.errors import FormatError, GeometryError
from bedside.io.dicom_checks import REQUIRED, check_attributes, check_grid, count_frames
from bedside.io.dicom_cine import say_loss
from bedside.io.dicom_files import (
    MAX_BYTES,
    read_decimals,
    read_header,
    read_whole,
    refused_as_ours,
)
from bedside.io.dicom_header import DicomInstances
from bedside.io.dicom_options import DicomOptions
from bedside.io.dicom_pixels import FrameDecoder, say_stray_bits
from bedside.io.dicom_slices import make_scan
from bedside.io.dicom_stack import Plane, check_alike, find_duplicates, is_seam, read_plane
from bedside.io.dicom_values import VALUE_TAGS, ValueRule, read_rule
from bedside.volume import Cine

_PLACE = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
# What must be the same in every slice, and what a person is told where it is not.
_SHARED = {
    "PatientID": "They are of several patients",
    "SeriesInstanceUID": "They are of several series",
    "FrameOfReferenceUID": "Their positions are not measured from one origin",
    "Modality": "They are of several kinds",
    "Rows": "They are of several sizes",
    "Columns": "They are of several sizes",
    "SamplesPerPixel": "They are of several kinds",
}
_TAGS = (
    *REQUIRED,
    *_PLACE,
    *_SHARED,
    *VALUE_TAGS,
    "SOPInstanceUID",
    "StudyInstanceUID",
    "NumberOfFrames",
    "InstanceNumber",
    "SliceThickness",
    "SpacingBetweenSlices",
    "AcquisitionNumber",
    "LossyImageCompression",
    "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
)
_IN_TIME = ("US", "IVUS", "XA", "RF")


@dataclass(frozen=True)
class _Slice:
    """A file of a series: its header is read, its pixels are not."""

    path: Path
    header: Any = field(repr=False)


def open_series(
    files: Sequence[Path], *, path: Path, max_bytes: int = MAX_BYTES,
    options: DicomOptions | None = None,
) -> tuple[Cine, DicomInstances]:  # fmt: skip
    """Open single images of one series as a scan; one file is read when its slice is asked for.

    Ultrasound and fluoroscopy without positions, or all at one, is a cine in the order of
    InstanceNumber; everything else is sorted by position, and by nothing else.

    Args:
        files: In any order; truncated ones count as missing.
        path: What a person named, for errors.
        max_bytes: A larger file, or a larger scan, is refused before decoding.
        options: What to do with gaps, and with CT that does not say how to rescale.

    Returns:
        The cine, and the headers in the order of its frames.

    Raises:
        FormatError: If a file is damaged, or they are not of one series.
        GeometryError: If slices are missing, or may be.
    """
    with refused_as_ours(path):
        return _open(files, path, max_bytes, options or DicomOptions())


def _open(
    files: Sequence[Path], path: Path, max_bytes: int, options: DicomOptions
) -> tuple[Cine, DicomInstances]:
    """Read, check and sort the files of a series."""
    slices, notes = _read_slices(files, path, max_bytes)
    first = slices[0].header
    _check_shared(slices)
    check_grid(first, slices[0].path, frames=len(slices), max_bytes=max_bytes)
    if first.SamplesPerPixel != 1 or first.PhotometricInterpretation == "PALETTE COLOR":
        raise FormatError(f"{path} is a series in colour, which is no scan. Name one file.")
    if str(first.get("Modality")) in _IN_TIME and _lie_together(slices):
        return _open_in_time(slices, notes, max_bytes, options)
    planes = [_read_plane(one) for one in slices]
    check_alike(planes)
    slices, planes, doubled = _drop_doubles(slices, planes, path, max_bytes)
    rules = _read_rules(slices, options)
    stray = say_stray_bits(_make_decoder(slices[0].path, max_bytes))
    try:
        cine, order = make_scan(
            planes,
            rules,
            lambda index: _make_decoder(slices[index].path, max_bytes)(0),
            dataset=first,
            options=options,
            path=path,
        )
    except GeometryError as error:
        if not notes:
            raise
        raise GeometryError(f"{error} ({'; '.join(notes)})") from error
    warnings = (*notes, *doubled, *cine.warnings, *stray, *say_loss(first))
    return replace(cine, warnings=warnings), _order_headers(slices, order, max_bytes)


def _read_slices(
    files: Sequence[Path], path: Path, max_bytes: int
) -> tuple[list[_Slice], list[str]]:
    """Read every header; a file that is truncated or damaged is a missing slice, and told of.

    Raises:
        FormatError: If none can be read, or one has several frames.
    """
    slices, broken = [], []
    for file in sorted(files):
        try:
            with refused_as_ours(file):
                header = read_header(file, max_bytes, tags=_TAGS, check_end=True)
                check_attributes(header, file, pixels=False)
                frames = count_frames(header, file)
        except FormatError as error:
            broken.append(str(error))
            continue
        if frames > 1:
            raise FormatError(
                f"{file} holds {frames} frames, and is no slice of a series. Name it alone."
            )
        slices.append(_Slice(file, header))
    if not slices:
        raise FormatError(broken[0] if broken else f"{path} names no file.")
    return slices, [f"left out, as if missing: {text}" for text in broken]


def _check_shared(slices: Sequence[_Slice]) -> None:
    """Refuse files that do not belong together.

    Raises:
        FormatError: If they differ in what a series has in common.
    """
    first = slices[0]
    for one in slices[1:]:
        for keyword, meaning in _SHARED.items():
            seen, expected = one.header.get(keyword), first.header.get(keyword)
            if seen != expected:
                shown = ("another", "one") if keyword == "PatientID" else (seen, expected)
                raise FormatError(
                    f"{one.path} has {shown[0]} {keyword}, {first.path.name} has {shown[1]}. "
                    f"{meaning}; name the files of one scan."
                )


def _lie_together(slices: Sequence[_Slice]) -> bool:
    """Tell whether no slice says that it lies elsewhere than another."""
    places = {str(_read_decimals(one, "ImagePositionPatient")) for one in slices}
    return len(places) == 1


def _open_in_time(
    slices: Sequence[_Slice], notes: list[str], max_bytes: int, options: DicomOptions
) -> tuple[Cine, DicomInstances]:
    """Take images at one place as a cine, by their numbers, which must all be there."""
    try:
        numbers = [int(one.header.InstanceNumber) for one in slices]
    except (AttributeError, TypeError, ValueError):
        numbers = []
    if len(set(numbers)) < len(slices):
        raise GeometryError(
            f"{slices[0].path} and the files beside it have no positions and no order in time: "
            "their InstanceNumber is missing or the same. Name one file."
        )
    ordered = [slices[index] for index in np.argsort(numbers)]
    first = ordered[0]
    rules = _read_rules(ordered, options)

    def decode(index: int) -> np.ndarray:
        return rules[index].apply(_make_decoder(ordered[index].path, max_bytes)(0))

    cine = Cine(
        shape=(len(ordered), 1, int(first.header.Rows), int(first.header.Columns)),
        decode=decode,
        modality=str(first.header.get("Modality") or "") or None,
        warnings=(
            *notes,
            "the images lie at one place and were taken as a cine, in the order of their numbers; "
            "areas are given in pixels",
        ),
    )
    return cine, _order_headers(ordered, range(len(ordered)), max_bytes)


def _read_plane(one: _Slice) -> Plane:
    """Read where a slice lies, and what its header says of its thickness."""
    return read_plane(
        *(_read_decimals(one, keyword) for keyword in _PLACE),
        name=one.path.name,
        thickness=_read_decimals(one, "SliceThickness"),
        between=_read_decimals(one, "SpacingBetweenSlices"),
        acquisition=one.header.get("AcquisitionNumber"),
    )


def _drop_doubles(
    slices: list[_Slice], planes: list[Plane], path: Path, max_bytes: int
) -> tuple[list[_Slice], list[Plane], list[str]]:
    """Drop slices that are there twice; refuse different ones at one place within a block.

    Raises:
        GeometryError: If all lie at one place, or two at one place show different things.
    """
    pairs = find_duplicates(planes)
    if len(slices) > 1 and len(pairs) == len(slices) - 1:
        raise GeometryError(
            f"{path}: all {len(slices)} images lie at one place, and are no scan. Name one file."
        )
    pairs = [pair for pair in pairs if not is_seam(planes, *pair)]
    for kept, dropped in pairs:
        one, other = (_make_decoder(slices[index].path, max_bytes)(0) for index in (kept, dropped))
        if not np.array_equal(one, other):
            raise GeometryError(
                f"{slices[kept].path} and {slices[dropped].path.name} lie at one place and "
                "differ: several points in time, echoes or reconstructions. Put each in a "
                "folder of its own."
            )
    gone = {dropped for _, dropped in pairs}
    kept_indices = [index for index in range(len(slices)) if index not in gone]
    notes = [f"{len(gone)} slices are there twice, and were taken once"] if gone else []
    return [slices[i] for i in kept_indices], [planes[i] for i in kept_indices], notes


def _read_decimals(one: _Slice, keyword: str) -> Any:
    """Read numbers of a header; what is none is left for `read_plane` to refuse by name."""
    try:
        return read_decimals(one.header, keyword)
    except (TypeError, ValueError):
        return one.header.get_item(keyword).value


def _read_rules(slices: Sequence[_Slice], options: DicomOptions) -> list[ValueRule]:
    """Read how each slice's pixels become values."""
    rules = []
    for one in slices:
        with refused_as_ours(one.path):
            modality = str(one.header.get("Modality") or "") or None
            rules.append(read_rule(one.header, one.path, modality=modality, options=options))
    return rules


def _make_decoder(file: Path, max_bytes: int) -> FrameDecoder:
    """Read one file and make ready to decode it.

    Raises:
        FormatError: If it is damaged.
    """
    try:
        with refused_as_ours(file) as caught:
            dataset = read_whole(file, max_bytes, caught)
            check_attributes(dataset, file)
            return FrameDecoder(dataset, file, 1, probe=False, invert=False)
    except OSError as error:
        raise FormatError(f"cannot read {file}: {error.strerror or error}.") from error


def _order_headers(
    slices: Sequence[_Slice], order: Sequence[int], max_bytes: int
) -> DicomInstances:
    """Put the headers in the order of the frames; the first one is read in full."""
    used = [index for index in order if index >= 0]
    place = {index: number for number, index in enumerate(used)}
    instances = [slices[index].header for index in used]
    with refused_as_ours(slices[used[0]].path):
        instances[0] = read_header(slices[used[0]].path, max_bytes)
    frames = tuple((place[index], 0) if index >= 0 else (-1, 0) for index in order)
    return DicomInstances(tuple(instances), frames)
