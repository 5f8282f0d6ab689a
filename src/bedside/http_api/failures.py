"""Errors as answers: each kind has its status, and a body that says what to do."""

import asyncio
import contextlib
import logging
import math
from collections.abc import Iterable, Mapping
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from bedside.errors import (
    BackendError,
    BedsideError,
    BusyError,
    CancelledError,
    ClosedError,
    DeadlineError,
    InputError,
    LimitError,
    MemoryLimitError,
    NoModelError,
    UsageError,
    printable,
)
from bedside.service.wanted import in_service_words

_log = logging.getLogger("bedside.http")

_LINGER_S = 2.0

# The first that fits counts.
STATUSES: tuple[tuple[type[Exception], int], ...] = (
    (NoModelError, 404),
    (BusyError, 503),
    (ClosedError, 503),
    (DeadlineError, 504),
    (CancelledError, 499),
    (LimitError, 413),
    (MemoryLimitError, 507),
    (InputError, 422),
    (UsageError, 400),
    (BackendError, 501),
    (BedsideError, 500),
)


class RequestError(BedsideError):
    """A request that is refused before it is an image, with a status of HTTP.

    Args:
        status: The status.
        message: What is wrong, and what to do.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def status_of(error: Exception) -> int:
    """Return the status for an error; 500 for one that nobody foresaw."""
    if isinstance(error, RequestError):
        return error.status
    return next((status for kind, status in STATUSES if isinstance(error, kind)), 500)


def answer_error(_: Request | None, error: Exception) -> Response:
    """Return the answer for an error: `{"error": {"type", "message", "status"}}`."""
    status = status_of(error)
    kind, message = type(error).__name__, in_service_words(printable(error))
    if not isinstance(error, BedsideError):
        # Its text may hold what is in the image.
        _log.error("unexpected %s", kind)
        kind, message = "ServerError", "an unexpected error, a fault in bedside. Please report it."
    headers = {}
    if isinstance(error, BusyError):
        headers["Retry-After"] = str(math.ceil(error.retry_after_s))
    elif status == 503:
        headers["Retry-After"] = "5"
    if isinstance(error, RequestError):
        # The rest of the body is not read.
        headers["Connection"] = "close"
    return _make_answer(status, kind, message, headers)


def answer_refused(_: Request, error: Exception) -> Response:
    """Return the answer where there is no route, or parameters do not fit, in the same form."""
    if isinstance(error, RequestValidationError):
        # What was sent is not repeated.
        faults = list_faults(error.errors())
        return _make_answer(400, "RequestError", f"the request is refused: {faults}.")
    assert isinstance(error, HTTPException)
    return _make_answer(error.status_code, "RequestError", f"{error.detail}.", error.headers)


def list_faults(faults: Iterable[Any]) -> str:
    """Return what is wrong with parameters, by their names, without what was sent."""
    return "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in faults)


def _make_answer(
    status: int, kind: str, message: str, headers: Mapping[str, str] | None = None
) -> Response:
    body = {"error": {"type": kind, "message": message, "status": status}}
    return _LingeringAnswer(body, status, headers=headers)


class _LingeringAnswer(JSONResponse):
    """An answer that is sent while the body may still be coming, the rest of which is dropped.

    A connection that is closed with bytes unread is reset, and the client may never see the
    answer.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer, then wait for the client to end."""
        if scope["type"] != "http" or self.headers.get("connection") != "close":
            await super().__call__(scope, receive, send)
            return
        start = {"status": self.status_code, "headers": self.raw_headers}
        await send({"type": "http.response.start", **start})
        await send({"type": "http.response.body", "body": self.body, "more_body": True})
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LINGER_S):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect" or not message.get("more_body"):
                        break
        await send({"type": "http.response.body", "body": b""})
