"""Bodies of STOW requests, taken apart into files while they arrive."""

import asyncio
import contextlib
import functools
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

from python_multipart.multipart import parse_options_header
from starlette.requests import ClientDisconnect, Request

from bedside.errors import CancelledError, LimitError, MessageError
from bedside.http_api.dicomweb.multipart import MultipartLimits, MultipartReader, read_related_type
from bedside.http_api.dicomweb.spool import DICOM, PartSpool
from bedside.http_api.door import Door
from bedside.http_api.failures import RequestError
from bedside.http_api.receiving import check_length
from bedside.system.unfinished import scratch_folder

# What is parsed and written at once, by a thread.
_PIECE_BYTES = 2**20


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
        spool = stack.enter_context(PartSpool(folder))
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


def _open_reader(request: Request, spool: PartSpool, most: int) -> _Reader:
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

    def __init__(self, spool: PartSpool, limits: MultipartLimits) -> None:
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
