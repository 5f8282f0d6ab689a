"""Single-image files of a series: headers read at once, pixels on request."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bedside.errors import FormatError
from bedside.io.dicom.checks import REQUIRED, check_attributes, count_frames
from bedside.io.dicom.files import (
    describe_form,
    pydicom_errors,
    read_decimals,
    read_header,
    read_whole,
)
from bedside.io.dicom.header import DicomInstances
from bedside.io.dicom.options import DicomOptions
from bedside.io.dicom.pixels import FrameDecoder
from bedside.io.dicom.runs import RUN_TAGS
from bedside.io.dicom.values import VALUE_TAGS, ValueRule, is_colour, read_colour_rule, read_rule

PLACE = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing")
"""Attributes of the place of a slice."""

# Attributes that all slices share, with the message if they differ.
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
    *REQUIRED, *PLACE, *_SHARED, *VALUE_TAGS, *RUN_TAGS, "SOPInstanceUID", "StudyInstanceUID",
    "NumberOfFrames", "InstanceNumber", "SliceThickness", "SpacingBetweenSlices",
    "AcquisitionNumber", "LossyImageCompression", "LossyImageCompressionRatio",
    "LossyImageCompressionMethod",
)  # fmt: skip


@dataclass(frozen=True)
class SliceFile:
    """A file of a series with its header."""

    path: Path
    header: Any = field(repr=False)


def read_slices(
    files: Sequence[Path], path: Path, max_bytes: int
) -> tuple[list[SliceFile], list[str]]:
    """Return all headers and warnings; a damaged file counts as a missing slice.

    Raises:
        FormatError: If none can be read, or one has several frames.
    """
    slices, broken = [], []
    for file in sorted(files):
        try:
            with pydicom_errors(file):
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
        slices.append(SliceFile(file, header))
    if not slices:
        raise FormatError(broken[0] if broken else f"{path} names no file.")
    odd = dict.fromkeys(note for one in slices for note in describe_form(one.header))
    return slices, [*odd, *(f"left out, as if missing: {text}" for text in broken)]


def check_shared(slices: Sequence[SliceFile]) -> None:
    """Refuse files that do not belong together.

    Raises:
        FormatError: If they differ in an attribute that a series shares.
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


def read_numbers(one: SliceFile, keyword: str) -> Any:
    """Return numbers of a header; malformed ones as they are, for `read_plane` to refuse."""
    try:
        return read_decimals(one.header, keyword)
    except (TypeError, ValueError):
        return one.header.get_item(keyword).value


def read_rules(slices: Sequence[SliceFile], options: DicomOptions) -> list[ValueRule]:
    """Return the value rule of each slice."""
    rules = []
    for one in slices:
        with pydicom_errors(one.path):
            if is_colour(one.header):
                rules.append(read_colour_rule(one.header))
                continue
            modality = str(one.header.get("Modality") or "") or None
            rules.append(read_rule(one.header, one.path, modality=modality, options=options))
    return rules


def make_decoder(file: Path, max_bytes: int) -> FrameDecoder:
    """Read one file and prepare to decode it.

    Raises:
        FormatError: If it is damaged.
    """
    try:
        with pydicom_errors(file) as caught:
            dataset = read_whole(file, max_bytes, caught)
            check_attributes(dataset, file)
            return FrameDecoder(dataset, file, 1, probe=False)
    except OSError as error:
        raise FormatError(f"cannot read {file}: {error.strerror or error}.") from error


def order_headers(
    slices: Sequence[SliceFile], order: Sequence[int], max_bytes: int
) -> DicomInstances:
    """Return the headers in the order of the frames; the first one is complete."""
    used = [index for index in order if index >= 0]
    place = {index: number for number, index in enumerate(used)}
    instances = [slices[index].header for index in used]
    with pydicom_errors(slices[used[0]].path):
        instances[0] = read_header(slices[used[0]].path, max_bytes)
    # Files of multi-frame classes number their only frame.
    numbers = [int("NumberOfFrames" in each) for each in instances]
    frames = tuple(
        (place[index], numbers[place[index]]) if index >= 0 else (-1, 0) for index in order
    )
    return DicomInstances(tuple(instances), frames)
