"""What the node has to know of an image when it arrives, from the head of its file.

The head comes from anybody: only its first part is parsed, values are skipped that are not needed,
and compressed data sets are not accepted at all (`bedside.dicom_node.contexts`).
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass

from pydicom import Dataset
from pydicom.datadict import tag_for_keyword

from bedside.dicom_node.traits import ImageTraits
from bedside.errors import FormatError
from bedside.io.dicom.head import is_uid, parse_head
from bedside.io.dicom.warnings import collected_warnings

_KEYWORDS = (
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality",
    "BodyPartExamined", "SeriesDescription", "StationName", "ImagesInAcquisition",
    "AcquisitionNumber", "NumberOfSeriesRelatedInstances", "NumberOfFrames",
    "ConcatenationUID", "InConcatenationTotalNumber",
)  # fmt: skip
_TAGS = {tag_for_keyword(keyword): keyword for keyword in _KEYWORDS}
_LONGEST = 256
_LAST_TAG = max(tag for tag in _TAGS if tag is not None)
_BINARY_TAG = tag_for_keyword("InConcatenationTotalNumber")
# Value representations whose length has 4 bytes, after 2 that are reserved.
_LONG_VRS = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())


@dataclass(frozen=True)
class ImageHeader(ImageTraits):
    """What an image says of itself.

    Attributes:
        sop_class_uid: Its class.
        sop_instance_uid: Its own UID.
        study_instance_uid: Of its study.
        series_instance_uid: Of its series.
        frames: How many frames it has.
        series_images: How many images its series has; None if it does not say.
        acquisition: Acquisition Number, or the UID of the concatenation that it is a part of.
        acquisition_images: How many images that has; None if it does not say.
    """

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    frames: int = 1
    series_images: int | None = None
    acquisition: str = ""
    acquisition_images: int | None = None


def read_header(head: bytes, *, is_implicit: bool = False) -> ImageHeader:
    """Return what an image says of itself.

    Args:
        head: The first bytes of its data set, without file meta information; `HEAD_BYTES` or all.
        is_implicit: Whether it has no value representations.

    Raises:
        FormatError: If it is none, or lacks a UID.
    """
    if (header := scan_header(head, is_implicit=is_implicit)) is not None:
        return header
    if head[:2] == b"\x02\x00":  # it would be taken for the file's own
        raise FormatError("an image begins with file meta information, which is not part of it.")
    try:
        dataset = parse_head(head, _KEYWORDS, is_implicit=is_implicit)
        with collected_warnings():  # values are converted at their first use
            return _make_header(lambda keyword: _text(dataset, keyword))
    except FormatError:
        raise
    except Exception as error:  # pydicom raises many kinds for damaged files
        raise FormatError(
            f"the head of an image cannot be read ({type(error).__name__})."
        ) from error


def scan_header(head: bytes, *, is_implicit: bool = False) -> ImageHeader | None:
    """Return what an image says of itself, if it says so plainly: a tenth of the time.

    Args:
        head: The first bytes of its data set, without file meta information.
        is_implicit: Whether it has no value representations.

    Returns:
        None if a part needs more than that, such as a sequence of undefined length, a character
        set, or bytes behind these.

    Raises:
        FormatError: If it lacks a UID.
    """
    values: dict[str, str] = {}
    at, before, end = 0, 0x0007FFFF, len(head)
    while at + 12 <= end:
        group, element, vr, length = struct.unpack_from("<HH2sH", head, at)
        tag = group << 16 | element
        if tag <= before:
            return None
        if tag > _LAST_TAG:
            return _make_header(lambda keyword: values.get(keyword, ""))
        before, start = tag, at + 8
        if is_implicit:
            (length,) = struct.unpack_from("<I", head, at + 4)
        elif vr in _LONG_VRS:
            (length,) = struct.unpack_from("<I", head, at + 8)
            start = at + 12
        elif not vr.isalpha():
            return None
        at = start + length
        if tag in _TAGS:
            value = bytes(head[start:at])
            if at > end or tag == _BINARY_TAG or not value.isascii() or b"\\" in value:
                return None
            values[_TAGS[tag]] = value.decode("ascii").rstrip("\0 ").strip()[:_LONGEST]
    return None


def _make_header(text: Callable[[str], str]) -> ImageHeader:
    """Return a header of the texts of elements, empty for those that are not there."""
    return ImageHeader(
        sop_class_uid=_uid(text, "SOPClassUID"),
        sop_instance_uid=_uid(text, "SOPInstanceUID"),
        study_instance_uid=_uid(text, "StudyInstanceUID"),
        series_instance_uid=_uid(text, "SeriesInstanceUID"),
        modality=text("Modality"),
        body_part=text("BodyPartExamined"),
        description=text("SeriesDescription"),
        station=text("StationName"),
        frames=_count(text("NumberOfFrames")) or 1,
        series_images=_count(text("NumberOfSeriesRelatedInstances")),
        acquisition=text("ConcatenationUID") or text("AcquisitionNumber"),
        acquisition_images=_count(text("InConcatenationTotalNumber"))
        or _count(text("ImagesInAcquisition")),
    )


def _uid(text: Callable[[str], str], keyword: str) -> str:
    uid = text(keyword)
    if not is_uid(uid):
        raise FormatError(f"an image has no valid {keyword}.")
    return uid


def _text(dataset: Dataset, keyword: str) -> str:
    value = dataset.get(keyword)
    return "" if value is None else str(value).strip()[:_LONGEST]


def _count(text: str) -> int | None:
    """A number above 0, or None."""
    return int(text) if text.isascii() and text.isdigit() and 0 < int(text) < 10**6 else None
