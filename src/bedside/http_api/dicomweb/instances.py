"""What a stored instance says of itself, from the head of its file.

The file comes from anybody: only its first part is parsed, and values that are not needed are
skipped. A deflated data set is inflated as far as it is parsed.
"""

import zlib
from dataclasses import dataclass
from pathlib import Path

from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
)

from bedside.errors import FormatError
from bedside.io.dicom.bare import find_dataset, find_syntax
from bedside.io.dicom.head import HEAD_BYTES, is_uid, parse_head
from bedside.io.dicom.warnings import collected_warnings

_KEYWORDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")


@dataclass(frozen=True)
class InstanceIds:
    """The UIDs of an instance.

    Attributes:
        sop_class_uid: Of its class.
        sop_instance_uid: Its own.
        study_instance_uid: Of its study.
        series_instance_uid: Of its series.
    """

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str


def read_ids(path: Path) -> InstanceIds:
    """Return the UIDs of a DICOM file.

    Raises:
        FormatError: If it has no file meta information, is damaged, or lacks one of them.
    """
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    # Some clients leave out the 128 bytes and DICM before the file meta information.
    syntax = find_syntax(head)
    if syntax is None:
        raise FormatError("the instance has no file meta information.")
    content = head[find_dataset(head) :]
    try:
        if syntax == DeflatedExplicitVRLittleEndian:
            content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, HEAD_BYTES)
        dataset = parse_head(
            content,
            _KEYWORDS,
            is_implicit=syntax == ImplicitVRLittleEndian,
            is_little_endian=syntax != ExplicitVRBigEndian,
        )
        with collected_warnings():  # values are converted at their first use
            values = [str(dataset.get(keyword, "")).strip() for keyword in _KEYWORDS]
    except Exception as error:  # pydicom raises many kinds for damaged files
        raise FormatError(f"the instance cannot be read ({type(error).__name__}).") from error
    for keyword, value in zip(_KEYWORDS, values, strict=True):
        if not is_uid(value):
            raise FormatError(f"the instance has no valid {keyword}.")
    return InstanceIds(*values)
