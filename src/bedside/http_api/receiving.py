"""Bodies of requests as they come: with a cap, a deadline, and a least rate."""

import asyncio
import threading
from collections.abc import AsyncIterator

from starlette.requests import ClientDisconnect, Request

from bedside.errors import BusyError, CancelledError
from bedside.http_api.failures import RequestError
from bedside.http_api.settings import HttpSettings

_LONGEST_NUMBER = 20


class Spool:
    """Room for the bodies of all requests together.

    Args:
        max_bytes: How much.

    Attributes:
        in_memory: Bytes of them that are in memory; counted roughly, as it only decides where
            bytes go.
        unpacking: Held while a zip is unpacked, so that zips do not take all threads.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self.n_bytes = self.in_memory = 0
        self.unpacking = asyncio.Semaphore(1)
        self._lock = threading.Lock()

    def take(self, n_bytes: int) -> None:
        """Count bytes that are received or unpacked, from any thread.

        Raises:
            BusyError: If other requests leave no room for them.
        """
        with self._lock:
            if self.n_bytes + n_bytes > self.max_bytes:
                raise BusyError(
                    "images of other requests leave no room on the disk. Try again later.",
                    retry_after_s=5.0,
                )
            self.n_bytes += n_bytes

    def give_back(self, n_bytes: int) -> None:
        """Count bytes that are removed."""
        with self._lock:
            self.n_bytes -= n_bytes


def check_length(request: Request, most: int, *, is_encoded: bool = False) -> int:
    """Return the length of a body as its head states it, before it is read; 0 if it does not.

    Args:
        request: The request.
        most: Bytes that its body may have.
        is_encoded: Whether the caller decodes it.

    Raises:
        RequestError: If it is too long, or encoded.
    """
    if not is_encoded and request.headers.get("content-encoding", "identity").lower() != "identity":
        raise RequestError(415, "the body is encoded. Send it without Content-Encoding.")
    length = request.headers.get("content-length", "0")
    if not length.isascii() or not length.isdigit():
        raise RequestError(400, "Content-Length is no number.")
    if len(length) > _LONGEST_NUMBER or int(length) > most:
        raise too_large(most)
    return int(length)


def too_large(most: int) -> RequestError:
    """Return the error of a body that is too long."""
    return RequestError(413, f"the body is larger than {most / 2**20:g} MiB. Send less.")


async def stream_body(
    request: Request, settings: HttpSettings, *, most: int
) -> AsyncIterator[bytes]:
    """Yield a body in pieces.

    Args:
        request: The request.
        settings: Deadline and least rate.
        most: Bytes that the body may have.

    Raises:
        RequestError: If it is too long, or comes too slowly.
        CancelledError: If the client leaves.
    """
    loop = asyncio.get_running_loop()
    begun, n_bytes = loop.time(), 0
    stream = request.stream()
    while True:
        # A client that sends a byte now and then gets no further with it.
        allowed_s = settings.header_s + n_bytes / (settings.kb_per_s * 1024)
        try:
            async with asyncio.timeout_at(begun + min(allowed_s, settings.body_s)):
                piece = await anext(stream, None)
        except TimeoutError as error:
            raise RequestError(
                408, f"the body came too slowly: {n_bytes} bytes in {loop.time() - begun:.0f} s."
            ) from error
        except ClientDisconnect as error:
            raise CancelledError("the client left before its image was there.") from error
        if piece is None:
            return
        n_bytes += len(piece)
        if n_bytes > most:
            raise too_large(most)
        yield piece
