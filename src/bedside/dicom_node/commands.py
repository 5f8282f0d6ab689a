"""Commands of DIMSE: what a peer asks for, and the answer (PS3.7, annex E)."""

import struct
from dataclasses import dataclass

from bedside.errors import FormatError

C_STORE, C_ECHO, N_EVENT_REPORT, C_CANCEL = 0x0001, 0x0030, 0x0100, 0x0FFF
_ANSWER, _NO_DATA_SET = 0x8000, 0x0101
# Elements of group 0000.
_LENGTH, _CLASS, _FIELD, _MESSAGE, _ANSWERED, _DATA_SET = 0x0, 0x2, 0x100, 0x110, 0x120, 0x800
_STATUS, _COMMENT, _INSTANCE, _EVENT_TYPE = 0x900, 0x902, 0x1000, 0x1002
_LONGEST_COMMENT = 64


@dataclass(frozen=True)
class Command:
    """What a peer asks for.

    Attributes:
        field: Which service, such as `C_STORE`.
        message_id: Its number, which the answer repeats.
        sop_class: Affected SOP Class UID; empty if it has none.
        sop_instance: Affected SOP Instance UID.
        has_data: Whether a data set follows.
        event_type: Of an N-EVENT-REPORT; 0 for others.
    """

    field: int
    message_id: int
    sop_class: str = ""
    sop_instance: str = ""
    has_data: bool = False
    event_type: int = 0


def read_command(data: bytes) -> Command:
    """Return what a command set says.

    Args:
        data: The command set, in Implicit VR Little Endian.

    Raises:
        FormatError: If it is not sound.
    """
    values: dict[int, bytes] = {}
    at = 0
    while at < len(data):
        if len(data) - at < 8:
            raise FormatError("a command is cut off.")
        group, element, length = struct.unpack_from("<HHI", data, at)
        at += 8 + length
        if group != 0 or at > len(data):
            raise FormatError("a command has an element that belongs elsewhere, or is cut off.")
        values[element] = data[at - length : at]
    return Command(
        _number(values, _FIELD), _number(values, _MESSAGE), _text(values, _CLASS),
        _text(values, _INSTANCE), has_data=_number(values, _DATA_SET) != _NO_DATA_SET,
        event_type=_number(values, _EVENT_TYPE) if _EVENT_TYPE in values else 0,
    )  # fmt: skip


def make_answer(command: Command, status: int, comment: str = "") -> bytes:
    """Return the command set of an answer.

    Args:
        command: What it answers.
        status: 0 for success.
        comment: Why not, for whoever reads the peer's log; of a failure.
    """
    body = b""
    if command.sop_class:
        body += _element(_CLASS, _padded(command.sop_class, b"\0"))
    body += _element(_FIELD, struct.pack("<H", command.field | _ANSWER))
    body += _element(_ANSWERED, struct.pack("<H", command.message_id))
    body += _element(_DATA_SET, struct.pack("<H", _NO_DATA_SET))
    body += _element(_STATUS, struct.pack("<H", status))
    if comment:
        body += _element(_COMMENT, _padded(comment[:_LONGEST_COMMENT], b" "))
    if command.sop_instance:
        body += _element(_INSTANCE, _padded(command.sop_instance, b"\0"))
    if command.event_type:
        body += _element(_EVENT_TYPE, struct.pack("<H", command.event_type))
    return _element(_LENGTH, struct.pack("<I", len(body))) + body


def _number(values: dict[int, bytes], element: int) -> int:
    try:
        (number,) = struct.unpack("<H", values[element])
    except (KeyError, struct.error):
        raise FormatError(f"a command has no valid element (0000,{element:04X}).") from None
    return int(number)


def _text(values: dict[int, bytes], element: int) -> str:
    try:
        return values.get(element, b"").rstrip(b"\0 ").decode("ascii")
    except UnicodeDecodeError:
        raise FormatError("a command has a UID that is none.") from None


def _padded(text: str, pad: bytes) -> bytes:
    data = text.encode("ascii", "replace")
    return data + pad * (len(data) % 2)


def _element(element: int, value: bytes) -> bytes:
    return struct.pack("<HHI", 0, element, len(value)) + value
