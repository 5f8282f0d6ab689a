"""The head of a data set that comes from anybody, parsed only as far as it is needed."""

import io
import re
from collections.abc import Sequence

from pydicom import Dataset
from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag, Tag

from bedside.io.dicom.warnings import collected_warnings

HEAD_BYTES = 2**20
"""How much is parsed: what doors ask for stands in front of the pixels."""

_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_MOST_UID = 64


def parse_head(
    content: bytes, keywords: Sequence[str], *, is_implicit: bool, is_little_endian: bool = True
) -> Dataset:
    """Read some elements from the beginning of a data set; the values of others are skipped.

    pydicom raises errors of many kinds where it is damaged.

    Args:
        content: Without file meta information, not compressed; no more than `HEAD_BYTES` are read.
        keywords: Elements, behind the last of which nothing is read.
        is_implicit: Whether it has no value representations.
        is_little_endian: Its byte order.
    """
    tags = [Tag(keyword) for keyword in keywords]
    last = max(tags)
    with collected_warnings():
        return read_dataset(
            io.BytesIO(content[:HEAD_BYTES]),
            is_implicit_VR=is_implicit,
            is_little_endian=is_little_endian,
            stop_when=lambda tag, vr, length: tag > last,
            specific_tags=list[BaseTag | int](tags),
        )


def is_uid(text: str) -> bool:
    """Whether a text is a UID.

    Example:
        >>> is_uid("1.2.840.10008"), is_uid("../1")
        (True, False)
    """
    return len(text) <= _MOST_UID and _UID.fullmatch(text) is not None
