"""What a stored instance says of itself, from the head of its file.

The file comes from anybody: only its first part is parsed, and values that are not needed are
skipped. A deflated data set is inflated as far as it is parsed.
"""

import io
import re
import zlib
from dataclasses import dataclass
from pathlib import Path

from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag, Tag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
)

from bedside.errors import FormatError
from bedside.io.dicom.bare import find_dataset, find_syntax
from bedside.io.dicom.warnings import collected_warnings

HEAD_BYTES = 2**20
"""How much of a file is parsed: the UIDs stand in front of the pixels."""

_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_MOST_UID = 64
_KEYWORDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_TAGS = [Tag(keyword) for keyword in _KEYWORDS]
_LAST = max(_TAGS)


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
        with collected_warnings():
            dataset = read_dataset(
                io.BytesIO(content),
                is_implicit_VR=syntax == ImplicitVRLittleEndian,
                is_little_endian=syntax != ExplicitVRBigEndian,
                stop_when=lambda tag, vr, length: tag > _LAST,
                specific_tags=list[BaseTag | int](_TAGS),
            )
            values = [str(dataset.get(keyword, "")).strip() for keyword in _KEYWORDS]
    except Exception as error:  # pydicom raises many kinds for damaged files
        raise FormatError(f"the instance cannot be read ({type(error).__name__}).") from error
    for keyword, value in zip(_KEYWORDS, values, strict=True):
        if not is_uid(value):
            raise FormatError(f"the instance has no valid {keyword}.")
    return InstanceIds(*values)


def is_uid(text: str) -> bool:
    """Whether a text is a UID.

    Example:
        >>> is_uid("1.2.840.10008"), is_uid("../1")
        (True, False)
    """
    return len(text) <= _MOST_UID and _UID.fullmatch(text) is not None
