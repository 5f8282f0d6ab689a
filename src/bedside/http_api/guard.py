"""Who may come in: checked by the head of a request, before anything of its body is read.

A page of any web site that a browser on this machine shows can send requests to this machine, and
by DNS also read the answers. So the header Host must name this machine, and a page of another site
is refused by its header Origin.
"""

import base64
import binascii
import time
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders, QueryParams
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from bedside.errors import BedsideError
from bedside.http_api.failures import RequestError, answer_error
from bedside.http_api.settings import LOOPBACK, HttpSettings
from bedside.service.answered import Answered
from bedside.service.keys import Key, find_key
from bedside.service.observer import Observer

OPEN_PATHS = ("/auth/", "/auth/token")
"""Answered without a key: clients of MONAI Label ask there whether they need one, and bring it."""

EARLY_PATH = "/segment"
"""The route whose requests are refused first of all if there is no room."""

_READING = ("GET", "HEAD", "OPTIONS")
_METHODS = (*_READING, "POST", "PUT", "DELETE", "PATCH", "CONNECT", "TRACE")
_POLICY_VIOLATION = 1008
_MOST_SECRET = 1024


class Guard:
    """Middleware that refuses, and notes what was answered.

    Args:
        app: What answers the rest.
        settings: Keys, hosts, origins.
        observer: Notes what was answered.
        models: Names of the models that are served.
        refuse_early: Raises for a request that may come in and has no room.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: HttpSettings,
        observer: Observer,
        models: Sequence[str],
        refuse_early: Callable[[Scope], None],
    ) -> None:
        self._app, self._settings, self._refuse_early = app, settings, refuse_early
        self._observer, self._models = observer, models
        self._hosts = tuple(host.lower() for host in settings.hosts)
        if not self._hosts and settings.is_local:
            self._hosts = LOOPBACK

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or have it answered."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        started, is_noted = time.monotonic(), False
        key: Key | None = None

        async def send_noted(message: Message) -> None:
            nonlocal is_noted
            if message["type"] == "http.response.start":
                # Before the client knows: what was answered is in the audit log, come what may.
                is_noted = True
                self._note(scope, message["status"], time.monotonic() - started, key)
                headers = MutableHeaders(scope=message)
                headers.setdefault("X-Content-Type-Options", "nosniff")
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        try:
            key = check_head(scope, self._settings, hosts=self._hosts)
            self._refuse_early(scope)
        except BedsideError as error:
            await _refuse(error, scope, receive, send_noted)
        else:
            scope.setdefault("state", {})["client"] = "" if key is None else key.name
            await self._app(scope, receive, send_noted)
        finally:
            if not is_noted:
                self._note(scope, 0, time.monotonic() - started, key)

    def _note(self, scope: Scope, status: int, seconds: float, key: Key | None) -> None:
        """Note an answer; names that were asked for only if there are such models."""
        asked = QueryParams(scope.get("query_string", b"")).get("model")
        params = scope.get("path_params", {})
        model = asked or params.get("model") or params.get("name") or ""
        model = model.partition(".")[0]  # such as of "NAME.network" in the Open Inference Protocol
        self._observer.note_answer(
            Answered(
                method=_name_method(scope),
                route=getattr(scope.get("route"), "path", None) or _find_early(scope),
                status=status,
                seconds=seconds,
                model=model if model in self._models else "",
                client="" if key is None else key.name,
            )
        )


def check_head(scope: Scope, settings: HttpSettings, *, hosts: Sequence[str]) -> Key | None:
    """Return the key of a request, None if none is needed.

    Args:
        scope: The request, or the opening of a WebSocket.
        settings: Keys and origins.
        hosts: Names that it may be for; empty for any.

    Raises:
        RequestError: If it may not come in.
    """
    headers = Headers(scope=scope)
    host = headers.get("host", "")
    if hosts and _host_name(f"//{host}") not in hosts:
        raise RequestError(
            421,
            "the header Host names another machine. Address this one, or list it in http.hosts.",
        )
    origin = headers.get("origin")
    is_reading = scope["type"] == "http" and scope["method"] in _READING
    if (
        origin is not None
        and not is_reading
        and urlsplit(origin).netloc.lower() != host.lower()
        and origin not in settings.origins
    ):
        raise RequestError(
            403, "pages of other web sites may not send requests. List theirs in http.origins."
        )
    is_open = scope["type"] == "http" and (
        scope["method"] == "OPTIONS" or scope["path"] in OPEN_PATHS
    )
    if not settings.keys or is_open:
        return None
    key = find_key(_find_secret(headers.get("authorization", "")), settings.keys)
    if key is None:
        raise RequestError(401, "a key is needed: send Authorization: Bearer KEY.")
    return key


def _name_method(scope: Scope) -> str:
    """Return the method of a request, which is any word: "-" for those that are not of HTTP."""
    if scope["type"] == "websocket":
        return "WEBSOCKET"
    method: str = scope["method"]
    return method if method in _METHODS else "-"


def _find_early(scope: Scope) -> str:
    """Return the route of a request that was refused before it was routed; "-" for any other."""
    return EARLY_PATH if scope.get("path") == EARLY_PATH else "-"


def _host_name(address: str) -> str:
    try:
        return (urlsplit(address).hostname or "").lower()
    except ValueError:
        return ""


def _find_secret(header: str) -> str:
    """Return the secret of a bearer, or the password of a browser."""
    kind, _, value = header.strip()[:_MOST_SECRET].partition(" ")
    if kind.lower() == "bearer":
        return value.strip()
    if kind.lower() == "basic":
        try:
            return base64.b64decode(value.strip(), validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return ""


async def _refuse(error: BedsideError, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": str(error)})
        return
    answer = answer_error(None, error)
    if answer.status_code == 401:
        answer.headers["WWW-Authenticate"] = 'Basic realm="bedside"'
    await answer(scope, receive, send)
