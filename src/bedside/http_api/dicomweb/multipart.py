"""Messages of the media type multipart/related, taken apart while they arrive.

The grammar is python-multipart's; limits, and the end of the message, are checked here.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from bedside.errors import LimitError, MessageError

# The parser writes a line for every fault, however many a client sends; they are answers here.
_SILENT = logging.Logger("silent", logging.CRITICAL)


@dataclass(frozen=True)
class MultipartLimits:
    """How large a message may be.

    Attributes:
        parts: Parts of one message.
        part_bytes: Bytes of one part.
        total_bytes: Bytes of all parts together.
    """

    parts: int = 5000
    part_bytes: int = 2**31
    total_bytes: int = 2**33


class PartReceiver(Protocol):
    """What takes the parts of a message, one after another."""

    def begin(self, headers: Mapping[str, str]) -> None:
        """Begin a part; its headers by their names in lower case."""

    def write(self, content: bytes) -> None:
        """Take the next bytes of the part."""

    def end(self) -> None:
        """End the part."""


@dataclass(frozen=True)
class RelatedType:
    """What the Content-Type of a multipart/related message says.

    Attributes:
        boundary: What separates its parts.
        type: Media type of its root part, in lower case; empty if it is not stated.
    """

    boundary: bytes
    type: str


def read_related_type(content_type: str) -> RelatedType | None:
    """Return the parameters of a Content-Type; None if it is not multipart/related.

    Raises:
        MessageError: If it has no boundary.

    Example:
        >>> read_related_type('multipart/related; type="application/dicom"; boundary=b')
        RelatedType(boundary=b'b', type='application/dicom')
    """
    media_type, parameters = parse_options_header(content_type)
    if media_type != b"multipart/related":
        return None
    boundary = parameters.get(b"boundary", b"")
    if not boundary:
        raise MessageError("the Content-Type multipart/related has no boundary. Add it.")
    root = parameters.get(b"type", b"").decode("latin-1").strip().lower()
    return RelatedType(boundary, root)


class MultipartReader:
    """Takes a message apart as its bytes arrive; memory does not grow with it.

    Args:
        boundary: What separates the parts.
        receiver: What takes them.
        limits: How large the message may be.

    Raises:
        MessageError: If the boundary is longer than any may be.
    """

    def __init__(
        self, boundary: bytes, receiver: PartReceiver, limits: MultipartLimits | None = None
    ) -> None:
        self._receiver, self._limits = receiver, limits or MultipartLimits()
        self._headers: dict[str, str] = {}
        self._field, self._value = bytearray(), bytearray()
        self._parts = self._part_bytes = self._total_bytes = 0
        self._ended = False
        try:
            parser = self._parser = MultipartParser(
                boundary,
                {
                    "on_part_begin": self._begin,
                    "on_part_data": self._write,
                    "on_part_end": self._receiver.end,
                    "on_header_field": lambda data, start, end: self._field.extend(data[start:end]),
                    "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
                    "on_header_end": self._keep_header,
                    "on_headers_finished": lambda: self._receiver.begin(self._headers),
                    "on_end": self._end,
                },
            )
        except FormParserError as error:
            raise MessageError(f"the multipart message cannot be read: {error}.") from error
        parser.logger = _SILENT

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes of the message.

        Raises:
            MessageError: If they do not follow the grammar.
            LimitError: If the message is larger than it may be.
        """
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise MessageError(
                f"the multipart message is damaged: {error}. Send it with CRLF line ends and the "
                "boundary of its Content-Type."
            ) from error

    def close(self) -> None:
        """Return if the message is complete.

        Raises:
            MessageError: If its last boundary has not come.
        """
        if not self._ended:
            raise MessageError(
                "the multipart message ends before its last boundary. It is truncated; send it "
                "again."
            )

    def _begin(self) -> None:
        self._headers = {}
        self._parts += 1
        self._part_bytes = 0
        if self._parts > self._limits.parts:
            raise LimitError(
                f"the message has more than {self._limits.parts} parts. Send it in several."
            )

    def _write(self, data: bytes, start: int, end: int) -> None:
        self._part_bytes += end - start
        self._total_bytes += end - start
        if self._part_bytes > self._limits.part_bytes:
            raise LimitError(
                f"a part of the message has more than {self._limits.part_bytes / 2**20:g} MiB."
            )
        if self._total_bytes > self._limits.total_bytes:
            raise LimitError(
                f"the parts of the message have more than {self._limits.total_bytes / 2**20:g} MiB "
                "together. Send them in several."
            )
        self._receiver.write(data[start:end])

    def _keep_header(self) -> None:
        name = self._field.decode("latin-1").strip().lower()
        self._headers[name] = self._value.decode("latin-1").strip()
        self._field.clear()
        self._value.clear()

    def _end(self) -> None:
        self._ended = True
