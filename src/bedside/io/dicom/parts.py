"""The files of one image: a single one, or the parts of a concatenation."""

import stat
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bedside.errors import FormatError
from bedside.io.dicom.checks import check_attributes, check_grid, count_frames
from bedside.io.dicom.files import pydicom_errors, read_header, read_whole
from bedside.io.dicom.pixels import FrameDecoder

PART_TAGS = ("SeriesInstanceUID", "ConcatenationUID", "InConcatenationTotalNumber")
"""What tells the parts of one concatenation."""

_SHARED = (
    "PatientID", "SeriesInstanceUID", "SOPClassUID", "FrameOfReferenceUID", "Rows", "Columns",
    "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "PixelRepresentation",
)  # fmt: skip
_WAY_OUT = "Put all parts into one folder, and name the folder or one of them."


@dataclass(frozen=True)
class Part:
    """One file of frames.

    Attributes:
        path: The file.
        header: Its header.
        frames: How many frames it has.
        channels: Of a decoded frame.
        decoder: Of its frames, as stored.
    """

    path: Path
    header: Any = field(repr=False)
    frames: int
    channels: int
    decoder: FrameDecoder = field(repr=False)


def read_part(path: Path, max_bytes: int, caught: Sequence[Any]) -> Part:
    """Read a file and prepare to decode its frames.

    Args:
        path: The file.
        max_bytes: Larger files, and larger decoded images, are refused.
        caught: The list of the `pydicom_errors` around this call.

    Raises:
        FormatError: If it cannot be decoded.
    """
    dataset = read_whole(path, max_bytes, caught)
    check_attributes(dataset, path)
    frames = count_frames(dataset, path)
    channels = check_grid(dataset, path, frames=frames, max_bytes=max_bytes)
    return Part(path, dataset, frames, channels, FrameDecoder(dataset, path, frames))


def read_parts(
    files: Sequence[Path], path: Path, max_bytes: int, caught: Sequence[Any]
) -> tuple[list[Part], list[str]]:
    """Return a file with its other parts, in the order of their frames.

    Args:
        files: One file, whose other parts are searched beside it; or all parts.
        path: Name for errors.
        max_bytes: As `read_part`, for all of them together.
        caught: As `read_part`.

    Returns:
        The parts, and warnings.

    Raises:
        FormatError: If one is missing, or they do not belong together; or as `read_part`.

    Source:
        DICOM PS3.3 C.7.6.16.2.2.4, Concatenations.
    """
    first = read_part(files[0], max_bytes, caught)
    if not is_part(first.header):
        if len(files) > 1:
            raise FormatError(
                f"{files[0]} holds {first.frames} frames, and is not part of a concatenation."
            )
        return [first], []
    notes = []
    if len(files) == 1:
        files = [files[0], *_find_beside(first)]
        if len(files) > 1:
            notes.append(
                f"{path.name} is a part of one image; its other parts lie beside it, and were "
                "taken with it"
            )
    parts = [first]
    for file in files[1:]:
        parts.append(read_part(file, max_bytes - _count_bytes(parts), caught))
    return _order(parts, path), [*notes, *_describe_unknown_total(parts)]


def is_part(header: Any) -> bool:
    """Whether a file holds only a part of an image."""
    return bool(header.get("ConcatenationUID")) and _read_int(
        header, "InConcatenationTotalNumber"
    ) not in (0, 1)


def _find_beside(part: Part) -> Iterable[Path]:
    """Yield the other parts of an image in the folder of one of them."""
    for file in sorted(part.path.parent.iterdir()):
        try:
            if file.samefile(part.path) or not stat.S_ISREG(file.stat().st_mode):
                continue
            with pydicom_errors(file):
                header = read_header(file, 2**62, tags=PART_TAGS)
        except (FormatError, OSError):
            continue
        if all(header.get(keyword) == part.header.get(keyword) for keyword in PART_TAGS[:2]):
            yield file


def _order(parts: Sequence[Part], path: Path) -> list[Part]:
    """Return parts in order; each must be there exactly once."""
    _check_shared(parts)
    by_number: dict[int, Part] = {}
    for part in parts:
        number = _read_int(part.header, "InConcatenationNumber")
        if number is None or number < 1:
            raise FormatError(f"{part.path} is a part of one image that does not say which.")
        other = by_number.setdefault(number, part)
        if other.header.get("SOPInstanceUID") != part.header.get("SOPInstanceUID"):
            raise FormatError(
                f"{other.path} and {part.path.name} both say that they are part {number} of one "
                "image. Put the parts of each image into a folder of their own."
            )
    totals = {_read_int(part.header, "InConcatenationTotalNumber") for part in parts} - {None}
    count = max(total or 0 for total in {*totals, *by_number})
    missing = [str(number) for number in range(1, count + 1) if number not in by_number]
    if missing:
        there = ", ".join(
            f"{number} ({by_number[number].path.name})" for number in sorted(by_number)
        )
        raise FormatError(
            f"{path} is one image in {count} parts (a concatenation), of which only {there} "
            f"{'is' if len(by_number) == 1 else 'are'} there: part {', '.join(missing)} "
            f"{'is' if len(missing) == 1 else 'are'} missing. {_WAY_OUT}"
        )
    ordered = [by_number[number] for number in sorted(by_number)]
    _check_offsets(ordered)
    return ordered


def _check_shared(parts: Sequence[Part]) -> None:
    first = parts[0]
    for part in parts[1:]:
        for keyword in _SHARED:
            if part.header.get(keyword) != first.header.get(keyword):
                raise FormatError(
                    f"{part.path} and {first.path.name} say that they are parts of one image, and "
                    f"differ in {keyword}. Put the parts of each image into a folder of their own."
                )


def _check_offsets(parts: Sequence[Part]) -> None:
    """Refuse parts whose frames are not consecutive."""
    begin = 0
    for part in parts:
        offset = _read_int(part.header, "ConcatenationFrameOffsetNumber")
        if offset not in (None, begin):
            raise FormatError(
                f"{part.path} says that {offset} frames of its image lie in the parts before it, "
                f"which hold {begin}. Find the parts that belong to it. {_WAY_OUT}"
            )
        begin += part.frames


def _describe_unknown_total(parts: Sequence[Part]) -> list[str]:
    if any(part.header.get("InConcatenationTotalNumber") for part in parts):
        return []
    found = f"{len(parts)} were" if len(parts) > 1 else "1 was"
    return [f"the parts of this image do not say how many there are; {found} found"]


def _count_bytes(parts: Sequence[Part]) -> int:
    """Return the size of the decoded frames of parts."""
    return sum(
        part.frames * part.header.Rows * part.header.Columns * part.header.SamplesPerPixel
        * part.header.BitsAllocated // 8
        for part in parts
    )  # fmt: skip


def _read_int(header: Any, keyword: str) -> int | None:
    try:
        return int(header[keyword].value)
    except (KeyError, TypeError, ValueError):
        return None
