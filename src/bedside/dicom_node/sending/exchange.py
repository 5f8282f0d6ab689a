"""HTTP requests with a deadline for all of each, and a cap on what comes back.

httpx limits each read and write; a peer that sends a byte a second would never end. Requests run in
an event loop of this object, where a timeout ends whatever they wait for.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from bedside.errors import LimitError, PeerError, UnansweredError
from bedside.version import __version__


@dataclass(frozen=True)
class HttpRequest:
    """A request.

    Attributes:
        method: Such as "GET".
        url: Where to.
        headers: Its header fields.
        params: Its query, encoded as needed.
        content: Pieces of its body; called anew for each attempt. None without a body.
        length: Bytes of the body.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    content: Callable[[], Iterable[bytes]] | None = None
    length: int = 0


@dataclass(frozen=True)
class HttpReply:
    """An answer.

    Attributes:
        status: HTTP status code.
        headers: Its header fields; names are found in any case.
        body: What it holds; empty if it went to a receiver of pieces.
    """

    status: int
    headers: httpx.Headers
    body: bytes


class Exchange:
    """A client for one thread at a time; connections are kept between requests.

    Redirects are not followed, and proxies of the environment are not used: files of patients go
    where the settings say.

    Args:
        connect_s: Limit for a connection.
        token_file: File with a bearer token, read for each request; None for none.
        tls: Context for https.
    """

    def __init__(
        self, *, connect_s: float, token_file: Path | None = None, tls: ssl.SSLContext | None = None
    ) -> None:
        self._token_file = token_file
        self._runner = asyncio.Runner()
        self._client = httpx.AsyncClient(
            timeout=httpx.Timeout(None, connect=connect_s),
            follow_redirects=False,
            trust_env=False,
            verify=tls if tls is not None else ssl.create_default_context(),
            headers={"User-Agent": f"bedside/{__version__}", "Accept-Encoding": "identity"},
        )

    def send(
        self,
        request: HttpRequest,
        *,
        deadline_s: float,
        max_bytes: int = 16 << 20,
        receive: Callable[[httpx.Headers, bytes], None] | None = None,
    ) -> HttpReply:
        """Return the answer to a request.

        Args:
            request: The request.
            deadline_s: Limit for the request with its answer.
            max_bytes: Limit for the body of the answer.
            receive: Called with header fields and each piece of a body of success; None keeps it.

        Raises:
            PeerError: If there is no connection: nothing was sent.
            UnansweredError: If it was sent, or a part of it, and no whole answer came in time.
            LimitError: If the answer is too long.
        """
        return self._runner.run(self._send(request, deadline_s, max_bytes, receive))

    def close(self) -> None:
        """Close all connections; once is enough."""
        if not self._client.is_closed:
            self._runner.run(self._client.aclose())
        self._runner.close()

    async def _send(
        self,
        request: HttpRequest,
        deadline_s: float,
        max_bytes: int,
        receive: Callable[[httpx.Headers, bytes], None] | None,
    ) -> HttpReply:
        try:
            async with asyncio.timeout(deadline_s):
                return await self._answer(request, max_bytes, receive)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise PeerError(f"cannot connect: {error or type(error).__name__}") from error
        except UnansweredError:  # which is a TimeoutError too
            raise
        except TimeoutError as error:
            raise UnansweredError(f"no whole answer within {deadline_s:g} s") from error
        except httpx.HTTPError as error:
            why = str(error) or type(error).__name__
            raise UnansweredError(f"the connection broke: {why}") from error

    async def _answer(
        self,
        request: HttpRequest,
        max_bytes: int,
        receive: Callable[[httpx.Headers, bytes], None] | None,
    ) -> HttpReply:
        """Send, and read the answer piece by piece."""
        headers = dict(request.headers) | self._authorization()
        content: AsyncIterator[bytes] | None = None
        if request.content is not None:
            headers["Content-Length"] = str(request.length)
            content = _pieces(request.content())
        async with self._client.stream(
            request.method, request.url, params=request.params or None, headers=headers,
            content=content,
        ) as reply:  # fmt: skip
            if reply.headers.get("Content-Encoding", "identity") != "identity":
                raise UnansweredError("the answer is compressed, which was not asked for")
            body, size = bytearray(), 0
            async for piece in reply.aiter_raw():
                size += len(piece)
                if size > max_bytes:
                    raise LimitError(f"the answer is longer than {max_bytes} bytes")
                if receive is not None and reply.is_success:
                    receive(reply.headers, piece)
                else:
                    body += piece
        return HttpReply(reply.status_code, reply.headers, bytes(body))

    def _authorization(self) -> dict[str, Any]:
        """The header with the token."""
        if self._token_file is None:
            return {}
        try:
            token = self._token_file.read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise PeerError(f"the token file cannot be read: {error}") from error
        return {"Authorization": f"Bearer {token}"}


async def _pieces(content: Iterable[bytes]) -> AsyncIterator[bytes]:
    for piece in content:
        yield piece
