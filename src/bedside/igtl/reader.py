"""Messages from bytes that come in pieces of any size, damaged ones among them."""

import re

from bedside.errors import InputError, MessageError
from bedside.igtl.codec import HEADER_BYTES, Header, decode_body, decode_header
from bedside.igtl.crc import crc64
from bedside.igtl.messages import Fault, Message

LIMIT_BYTES = 64 * 2**20
_BEGIN_BYTES = 14
_BEGIN = re.compile(rb"\0[\1\2][A-Z][A-Z0-9_\0]{11}")
_CHECKED_PER_BYTE = 4


class MessageReader:
    """Returns messages as soon as their last byte has come.

    What is damaged becomes a `Fault`, and reading goes on at the next bytes that are a header
    with the checksum of its body, which may be within the damaged one, if that was cut short. At
    most the bytes of one body are kept, and none before they have come.

    Args:
        limit_bytes: Largest body that is accepted.

    Example:
        >>> from bedside.igtl import Message, String, encode_message
        >>> data = encode_message(Message(String("ready"), device="probe"))
        >>> reader = MessageReader()
        >>> reader.feed(data[:40]), [each.content.text for each in reader.feed(data[40:])]
        ([], ['ready'])
    """

    def __init__(self, limit_bytes: int = LIMIT_BYTES) -> None:
        self._limit = limit_bytes
        self._data = bytearray()
        self._header: Header | None = None
        # Bytes of the message before that may be of the next one, if that has no header: a message
        # that was cut short takes them, and nothing shows it where they are no more than zeros.
        self._before = b""
        # Whether the place of the next header is unknown, and how many bytes may be checked
        # in vain to find it: so much per byte received that the work stays in proportion.
        self._searching = False
        self._budget = 0

    @property
    def pending(self) -> int:
        """Bytes of a message that is not whole yet."""
        return 0 if self._searching and self._header is None else len(self._data)

    def feed(self, data: bytes | memoryview) -> list[Message | Fault]:
        """Take bytes; return what they complete."""
        self._data += data
        granted = self._budget + _CHECKED_PER_BYTE * len(data)
        self._budget = min(granted, _CHECKED_PER_BYTE * self._limit)
        found: list[Message | Fault] = []
        while self._step(found):
            pass
        return found

    def finish(self, fault: Fault | None = None) -> list[Message | Fault]:
        """Return what is left at the end of the bytes.

        Args:
            fault: What is told of a message that is not whole; by default that it ends there.
        """
        found: list[Message | Fault] = []
        while self._data:
            if not self._searching:
                reason = f"the last message ends after {len(self._data)} bytes."
                found.append(fault or Fault("truncated", reason))
            self._search()
            while self._step(found):
                pass
        return found

    def _step(self, found: list[Message | Fault]) -> bool:
        """Go on by one message; False if more bytes are needed."""
        if self._searching and not self._find_begin():
            return False
        if self._header is None:
            if len(self._data) < HEADER_BYTES:
                return False
            self._header = self._read_header(found)
            return True
        end = HEADER_BYTES + self._header.size
        if len(self._data) < end:
            return False
        with memoryview(self._data) as view:
            body = bytes(view[HEADER_BYTES:end])
        if crc64(body) == self._header.crc:
            found.append(_decode(self._header, body))
            before = bytes(self._data[1 if not body else end - 1 : end])
            self._go_on(end)
            self._before = before
            return True
        if self._searching:
            self._budget -= len(body)
        else:
            reason = f"the checksum of {self._header.type}, {len(body)} bytes, is wrong."
            found.append(Fault("crc", reason, self._header.device))
        self._search()
        return True

    def _read_header(self, found: list[Message | Fault]) -> Header | None:
        """The header at the front; None if there is none, and the next is searched for."""
        try:
            header = decode_header(self._data[:HEADER_BYTES])
        except MessageError as error:
            fault = Fault("header", str(error))
        else:
            if header.size <= self._limit:
                return header
            reason = f"the body of {header.type} has {header.size} bytes; the limit is "
            fault = Fault("limit", f"{reason}{self._limit}.", header.device)
        if not self._searching:
            found.append(fault)
            self._data[:0] = b"\0" + self._before
        self._search()
        return None

    def _find_begin(self) -> bool:
        """Drop what comes before the next bytes that may be a header within the budget."""
        if self._header is not None:
            if self._header.size <= self._budget:
                return True
            self._search()
        found = _BEGIN.search(self._data)
        begin = found.start() if found else max(len(self._data) - _BEGIN_BYTES + 1, 0)
        del found  # it holds the bytes, which could not be dropped
        del self._data[:begin]
        return len(self._data) >= _BEGIN_BYTES

    def _go_on(self, end: int) -> None:
        del self._data[:end]
        self._header, self._searching, self._before = None, False, b""

    def _search(self) -> None:
        """Drop the header at the front, and search for the next one."""
        self._go_on(1)
        self._searching = True


def _decode(header: Header, body: bytes) -> Message | Fault:
    try:
        return decode_body(header, body)
    except InputError as error:
        return Fault("content", str(error), header.device)
