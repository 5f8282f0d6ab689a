"""Bodies of STOW requests, taken apart into files while they arrive."""

import contextlib
import functools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

from python_multipart.multipart import parse_options_header
from starlette.requests import Request

from bedside.errors import LimitError, MessageError
from bedside.http_api.dicomweb.multipart import MultipartLimits, MultipartReader, read_related_type
from bedside.http_api.dicomweb.spool import DICOM, PartSpool
from bedside.http_api.door import Door
from bedside.http_api.failures import RequestError
from bedside.http_api.receiving import Spool, check_length, stream_body
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
        BusyError: If there is no room on the disk.
        CancelledError: If the client leaves.
    """
    most = door.settings.upload_mb * 2**20
    check_length(request, most)
    with _Share(door.spool) as share, contextlib.ExitStack() as stack:
        folder = stack.enter_context(scratch_folder(door.folder))
        parts = stack.enter_context(PartSpool(folder))
        try:
            await _read(door, request, parts, share, most)
            yield parts.parts
        finally:
            await door.run(stack.close)


async def _read(door: Door, request: Request, parts: PartSpool, share: "_Share", most: int) -> None:
    """Read a body to its end."""
    try:
        reader = _open_reader(request, parts, most)
        async for piece in _join(stream_body(request, door.settings, most=most)):
            share.take(len(piece))
            await door.run(functools.partial(reader.feed, piece))
        reader.close()
    except MessageError as error:
        raise RequestError(400, str(error)) from error
    except OSError as error:
        raise RequestError(507, "there is no space for the instances. Send them later.") from error


class _Share:
    """What one request takes of the disk for all; given back at the end of a block.

    Args:
        spool: The disk for all.
    """

    def __init__(self, spool: Spool) -> None:
        self._spool, self._n_bytes = spool, 0

    def take(self, n_bytes: int) -> None:
        """Take more.

        Raises:
            BusyError: If other requests leave no room.
        """
        self._spool.take(n_bytes)
        self._n_bytes += n_bytes

    def __enter__(self) -> "_Share":
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Return all of it."""
        self._spool.give_back(self._n_bytes)


async def _join(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Yield pieces that are worth a thread each."""
    joined = bytearray()
    async for piece in pieces:
        joined += piece
        if len(joined) >= _PIECE_BYTES:
            yield bytes(joined)
            joined.clear()
    if joined:
        yield bytes(joined)


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
