"""Bodies of requests in memory, inflated if need be, under one ceiling for all together."""

import contextlib
import functools
import zlib
from collections.abc import AsyncIterator

from starlette.requests import Request

from bedside.errors import BusyError
from bedside.http_api.door import Door
from bedside.http_api.failures import RequestError
from bedside.http_api.receiving import check_length, stream_body, too_large

MAX_BODY_BYTES = 2**29
"""Largest body of a request, and of all requests together while they are received."""

# 47: a header of gzip or of zlib, whichever is there.
_WINDOWS = {"gzip": 47, "deflate": 47}


class BodyBudget:
    """Memory for the bodies of all requests.

    Args:
        door: Its limits count, and its threads inflate.
    """

    def __init__(self, door: Door) -> None:
        self._most = min(MAX_BODY_BYTES, door.settings.upload_mb * 2**20)
        self._settings = door.settings
        self._run = door.run
        self._held = 0

    def check(self, request: Request) -> int:
        """Return the length that a request states; 0 if it does not.

        Raises:
            RequestError: If it is too long.
        """
        return check_length(request, self._most, is_encoded=True)

    @contextlib.asynccontextmanager
    async def receive(self, request: Request) -> AsyncIterator[bytearray]:
        """Receive the body of a request; it counts until the end of the block.

        Raises:
            RequestError: If it is too large, too slow, or its encoding is unknown or damaged.
            BusyError: If the bodies of other requests leave no room.
            CancelledError: If the client leaves.
        """
        body = _Body(request.headers.get("content-encoding", "identity").strip().lower())
        self.check(request)
        try:
            async for piece in stream_body(request, self._settings, most=self._most):
                await self._take(body, piece)
            yield body.close()
        finally:
            self._held -= body.n_bytes

    async def _take(self, body: "_Body", chunk: bytes) -> None:
        """Add a chunk to a body, a piece at a time if it inflates."""
        left = chunk
        while left:
            before = body.n_bytes
            if body.is_compressed:
                left = await self._run(functools.partial(body.add, left))
            else:
                left = body.add(left)
            self._held += body.n_bytes - before
            if body.n_bytes > self._most:
                raise too_large(self._most)
            if self._held > MAX_BODY_BYTES:
                raise BusyError(
                    "other requests are being received, and leave no room for this one. Try "
                    "again later.",
                    retry_after_s=1.0,
                )


class _Body:
    """A body that is being received.

    Args:
        encoding: Its Content-Encoding.

    Raises:
        RequestError: If that is unknown.
    """

    def __init__(self, encoding: str) -> None:
        if encoding != "identity" and encoding not in _WINDOWS:
            raise RequestError(415, "the Content-Encoding is unknown. Use gzip or deflate.")
        self._content = bytearray()
        self._inflater = None if encoding == "identity" else zlib.decompressobj(_WINDOWS[encoding])

    @property
    def n_bytes(self) -> int:
        """Bytes so far, inflated."""
        return len(self._content)

    @property
    def is_compressed(self) -> bool:
        """Whether it inflates."""
        return self._inflater is not None

    def add(self, chunk: bytes) -> bytes:
        """Add what is in a chunk, 1 MiB at most if it inflates; return what is left of it."""
        if self._inflater is None:
            self._content += chunk
            return b""
        if self._inflater.eof:
            raise RequestError(400, "bytes follow the end of the compressed body.")
        try:
            self._content += self._inflater.decompress(chunk, 2**20)
        except zlib.error as error:
            raise RequestError(400, "the compressed body is damaged.") from error
        return self._inflater.unconsumed_tail or self._inflater.unused_data

    def close(self) -> bytearray:
        """Return the body.

        Raises:
            RequestError: If it ends in the middle.
        """
        if self._inflater is not None and not self._inflater.eof:
            raise RequestError(400, "the compressed body ends in the middle.")
        return self._content
