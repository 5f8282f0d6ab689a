"""DICOM files without a preamble, recognised by their first elements; file meta information."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_PREAMBLE = 128
_PREFIX = b"DICM"
# VRs with two reserved bytes and a length of 32 bits, and all others.
_LONG = frozenset(["OB", "OD", "OF", "OL", "OV", "OW", "SQ", "SV", "UC", "UN", "UR", "UT", "UV"])
_SHORT = frozenset(
    [
        *("AE", "AS", "AT", "CS", "DA", "DS", "DT", "FD", "FL", "IS", "LO", "LT"),
        *("PN", "SH", "SL", "SS", "ST", "TM", "UI", "UL", "US"),
    ]
)
_UID = re.compile(rb"[0-2](?:\.\d+){3,}[\0 ]*")
# SOP class and instance, transfer syntax, in file meta information and in a data set.
_WITH_UID = frozenset([(2, 2), (2, 3), (2, 0x10), (8, 0x16), (8, 0x18)])
_TRANSFER_SYNTAX = (2, 0x10)
_MOST_ELEMENTS = 64


@dataclass(frozen=True)
class _Element:
    """An element in the first bytes of a file.

    Attributes:
        tag: (group, element).
        value: Its value.
        end: Offset of the next element.
    """

    tag: tuple[int, int]
    value: bytes
    end: int


def has_prefix(head: bytes) -> bool:
    """Whether a file begins with 128 bytes and DICM."""
    return head[_PREAMBLE : _PREAMBLE + len(_PREFIX)] == _PREFIX


def is_dicom(head: bytes) -> bool:
    """Whether a file is DICOM, with or without a preamble, by its first 1024 bytes."""
    return has_prefix(head) or is_bare_dicom(head)


def is_bare_dicom(head: bytes) -> bool:
    """Whether a file without a preamble begins with elements of DICOM's groups 2 or 8.

    Elements must be in order and one must hold a UID, which other files do not match by chance.

    Args:
        head: The first 1024 bytes of a file.

    Example:
        >>> is_bare_dicom(bytes([8, 0, 22, 0]) + b"UI" + bytes([8, 0]) + b"1.2.840.")
        False
        >>> is_bare_dicom(bytes([8, 0, 22, 0]) + b"UI" + bytes([8, 0]) + b"1.2.84.1")
        True
    """
    if has_prefix(head):
        return False
    return any(_holds_uid(head, explicit, order) for explicit, order in _ENCODINGS)


def find_syntax(head: bytes) -> str | None:
    """Return the transfer syntax in the first bytes of a file; None if it is not there."""
    for element in _list_meta(head):
        if element.tag == _TRANSFER_SYNTAX:
            return element.value.decode("ascii", "replace").strip(" \0")
    return None


def find_dataset(content: bytes) -> int:
    """Return the offset of the data set, after the file meta information."""
    end = _begin(content)
    for element in _list_meta(content):
        end = element.end
    return end


_ENCODINGS = ((True, "little"), (False, "little"), (True, "big"))


def _begin(head: bytes) -> int:
    return _PREAMBLE + len(_PREFIX) if has_prefix(head) else 0


def _list_meta(head: bytes) -> Iterator[_Element]:
    """Yield the elements of the file meta information, always explicit and little-endian."""
    for element in _list_elements(head, _begin(head), explicit=True, order="little"):
        if element.tag[0] != 2:
            return
        yield element


def _holds_uid(head: bytes, explicit: bool, order: str) -> bool:  # noqa: FBT001
    """Whether elements of one encoding are in order, up to one that holds a UID."""
    last = (0, 0)
    for element in _list_elements(head, 0, explicit=explicit, order=order):
        if element.tag <= last or element.tag[0] not in (2, 8):
            return False
        if element.tag in _WITH_UID:
            return _UID.fullmatch(element.value) is not None
        last = element.tag
    return False


def _list_elements(head: bytes, place: int, *, explicit: bool, order: str) -> Iterator[_Element]:
    """Yield elements while they are valid and their values end within `head`."""
    for _ in range(_MOST_ELEMENTS):
        start = place + 8
        if start > len(head):
            return
        numbers = [_read(head, place + offset, 2, order) for offset in (0, 2)]
        length = _read(head, place + 4, 4, order)
        if explicit:
            vr = head[place + 4 : place + 6].decode("ascii", "replace")
            if vr in _LONG:
                start, length = place + 12, _read(head, place + 8, 4, order)
            elif vr in _SHORT:
                length = _read(head, place + 6, 2, order)
            else:
                return
        if start + length > len(head):
            return
        yield _Element((numbers[0], numbers[1]), head[start : start + length], start + length)
        place = start + length


def _read(head: bytes, place: int, count: int, order: str) -> int:
    return int.from_bytes(head[place : place + count], "big" if order == "big" else "little")
