"""Bodies of STOW requests, taken apart into files while they arrive."""

import asyncio
import contextlib
import functools
import tempfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import BinaryIO, Protocol

from python_multipart.multipart import parse_options_header
from starlette.requests import ClientDisconnect, Request

from bedside.errors import CancelledError, LimitError, MessageError
from bedside.http_api.dicomweb.multipart import MultipartLimits, MultipartReader, read_related_type
from bedside.http_api.door import Door
from bedside.http_api.failures import RequestError
from bedside.http_api.receiving import check_length
from bedside.system.unfinished import scratch_folder

DICOM = "application/dicom"
"""Media type of an instance."""

# What is parsed and written at once, by a thread.
_PIECE_BYTES = 2**20
# No instance is smaller: its file meta information alone takes nearly as much.
_LEAST_BYTES = 256


class _Reader(Protocol):
    """What takes a body apart."""

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes."""

    def close(self) -> None:
        """Return if the body is complete."""


@contextlib.asynccontextmanager
async def receive_parts(door: Door, request: Request) -> AsyncIterator[list[Path | None]]:
    """Receive the parts of a message as files, which are removed at the end of the block.

    Args:
        door: Its limits count, and its threads write.
        request: Its body is multipart/related, or one instance.

    Yields:
        A file for each part; None for a part that is no instance by its type or size.

    Raises:
        RequestError: If the message is malformed, too slow, or there is no space for it.
        LimitError: If it is too large.
        CancelledError: If the client leaves.
    """
    most = door.settings.upload_mb * 2**20
    check_length(request, most)
    stack = contextlib.ExitStack()
    try:
        folder = stack.enter_context(scratch_folder(Path(tempfile.gettempdir())))
        spool = stack.enter_context(_Spool(folder))
        async with asyncio.timeout(door.settings.body_s):
            await _feed(door, request, _open_reader(request, spool, most))
        parts = spool.parts
    except BaseException as error:
        await door.run(stack.close)
        if isinstance(error, Exception):
            raise _explain(error, door.settings.body_s) from error
        raise
    try:
        yield parts
    finally:
        await door.run(stack.close)


async def _feed(door: Door, request: Request, reader: _Reader) -> None:
    """Give a body to its reader, piece by piece, in a thread."""
    piece = bytearray()
    async for chunk in request.stream():
        piece += chunk
        if len(piece) >= _PIECE_BYTES:
            content, piece = bytes(piece), bytearray()
            await door.run(functools.partial(reader.feed, content))
    await door.run(lambda: reader.feed(bytes(piece)))
    reader.close()


def _explain(error: Exception, body_s: float) -> Exception:
    """Return the error to answer with."""
    if isinstance(error, TimeoutError):
        return RequestError(408, f"the body was not there within {body_s:g} s. Send it faster.")
    if isinstance(error, ClientDisconnect):
        return CancelledError("the client left before its instances were there.")
    if isinstance(error, MessageError):
        return RequestError(400, str(error))
    if isinstance(error, OSError):
        return RequestError(507, "there is no space for the instances. Send them later.")
    return error


def _open_reader(request: Request, spool: "_Spool", most: int) -> _Reader:
    """Return what takes a body apart.

    Raises:
        RequestError: If its media type is not taken.
        MessageError: If its boundary is missing or too long.
    """
    content_type = request.headers.get("content-type", "")
    limits = MultipartLimits(total_bytes=most)
    if parse_options_header(content_type)[0] == DICOM.encode():
        return _Single(spool, limits)
    related = read_related_type(content_type)
    # The type of the parts may be left out: each states its own.
    if related is None or related.type not in ("", DICOM):
        raise RequestError(415, f'expected Content-Type multipart/related; type="{DICOM}".')
    return MultipartReader(related.boundary, spool, limits)


class _Single:
    """A body that is one instance.

    Args:
        spool: What takes it.
        limits: How large it may be.
    """

    def __init__(self, spool: "_Spool", limits: MultipartLimits) -> None:
        self._spool, self._left = spool, min(limits.part_bytes, limits.total_bytes)
        spool.begin({})

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes.

        Raises:
            LimitError: If they are too many.
        """
        self._left -= len(chunk)
        if self._left < 0:
            raise LimitError("the instance is too large.")
        self._spool.write(chunk)

    def close(self) -> None:
        """End the instance."""
        self._spool.end()


class _Spool:
    """Writes parts to files; a context manager.

    Args:
        folder: Where they are written.
    """

    def __init__(self, folder: Path) -> None:
        self.parts: list[Path | None] = []
        self._folder = folder
        self._is_dicom = False
        self._head = b""
        self._file: BinaryIO | None = None

    def begin(self, headers: Mapping[str, str]) -> None:
        """Begin a part."""
        kind, _ = parse_options_header(headers.get("content-type", DICOM))
        self._is_dicom, self._head = kind == DICOM.encode(), b""
        self.parts.append(None)

    def write(self, content: bytes) -> None:
        """Take the next bytes; a file is made once there are enough for an instance."""
        if self._file is not None:
            self._file.write(content)
        elif self._is_dicom:
            self._head += content
            if len(self._head) >= _LEAST_BYTES:
                path = self._folder / f"{len(self.parts):05d}"
                self._file = path.open("wb")
                self._file.write(self._head)
                self.parts[-1] = path

    def end(self) -> None:
        """End the part."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def __enter__(self) -> "_Spool":
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the file that is open."""
        self.end()
