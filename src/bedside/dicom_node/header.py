"""What the node has to know of an image when it arrives, from the head of its file.

The head comes from anybody: only its first part is parsed, values are skipped that are not needed,
and compressed data sets are not accepted at all (`bedside.dicom_node.contexts`).
"""

from dataclasses import dataclass

from pydicom import Dataset

from bedside.errors import FormatError
from bedside.io.dicom.head import is_uid, parse_head
from bedside.io.dicom.warnings import collected_warnings

_KEYWORDS = (
    "SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality",
    "BodyPartExamined", "SeriesDescription", "StationName", "ImagesInAcquisition",
    "AcquisitionNumber", "NumberOfSeriesRelatedInstances", "NumberOfFrames",
    "ConcatenationUID", "InConcatenationTotalNumber",
)  # fmt: skip


@dataclass(frozen=True)
class ImageHeader:
    """What an image says of itself.

    Attributes:
        sop_class_uid: Its class.
        sop_instance_uid: Its own UID.
        study_instance_uid: Of its study.
        series_instance_uid: Of its series.
        modality: Such as "US"; empty if it does not say, as all that follows.
        body_part: Body Part Examined.
        description: Series Description.
        station: Station Name.
        frames: How many frames it has.
        series_images: How many images its series has; None if it does not say.
        acquisition: Acquisition Number, or the UID of the concatenation that it is a part of.
        acquisition_images: How many images that has; None if it does not say.
    """

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str
    modality: str = ""
    body_part: str = ""
    description: str = ""
    station: str = ""
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
    if head[:2] == b"\x02\x00":  # it would be taken for the file's own
        raise FormatError("an image begins with file meta information, which is not part of it.")
    try:
        dataset = parse_head(head, _KEYWORDS, is_implicit=is_implicit)
        with collected_warnings():  # values are converted at their first use
            return _make_header(dataset)
    except FormatError:
        raise
    except Exception as error:  # pydicom raises many kinds for damaged files
        raise FormatError(
            f"the head of an image cannot be read ({type(error).__name__})."
        ) from error


def _make_header(dataset: Dataset) -> ImageHeader:
    return ImageHeader(
        sop_class_uid=_uid(dataset, "SOPClassUID"),
        sop_instance_uid=_uid(dataset, "SOPInstanceUID"),
        study_instance_uid=_uid(dataset, "StudyInstanceUID"),
        series_instance_uid=_uid(dataset, "SeriesInstanceUID"),
        modality=_text(dataset, "Modality"),
        body_part=_text(dataset, "BodyPartExamined"),
        description=_text(dataset, "SeriesDescription"),
        station=_text(dataset, "StationName"),
        frames=_count(dataset, "NumberOfFrames") or 1,
        series_images=_count(dataset, "NumberOfSeriesRelatedInstances"),
        acquisition=_text(dataset, "ConcatenationUID") or _text(dataset, "AcquisitionNumber"),
        acquisition_images=_count(dataset, "InConcatenationTotalNumber")
        or _count(dataset, "ImagesInAcquisition"),
    )


def _uid(dataset: Dataset, keyword: str) -> str:
    text = _text(dataset, keyword)
    if not is_uid(text):
        raise FormatError(f"an image has no valid {keyword}.")
    return text


def _text(dataset: Dataset, keyword: str) -> str:
    value = dataset.get(keyword)
    return "" if value is None else str(value).strip()[:256]


def _count(dataset: Dataset, keyword: str) -> int | None:
    """A number above 0, or None."""
    text = _text(dataset, keyword)
    return int(text) if text.isascii() and text.isdigit() and 0 < int(text) < 10**6 else None
