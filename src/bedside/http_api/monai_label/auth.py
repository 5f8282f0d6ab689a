"""`/auth`: how a plug-in that asks for name and password gets in with a key of the server."""

from typing import Any
from urllib.parse import parse_qs

from fastapi import APIRouter
from starlette.requests import Request

from bedside.http_api.door import Door
from bedside.http_api.failures import RequestError
from bedside.http_api.receiving import stream_body
from bedside.service.keys import find_key

_MOST_BYTES = 4096


def add_auth(router: APIRouter, door: Door) -> None:
    """Add the routes; those that a client calls without a key are in `guard.OPEN_PATHS`."""
    keys = door.settings.keys

    @router.get("/auth/", summary="State whether a key is needed.")
    async def state() -> dict[str, Any]:
        return {"enabled": bool(keys)}

    @router.post("/auth/token", summary="Take a key as the password, whatever the name.")
    async def give(request: Request) -> dict[str, str]:
        pieces = [piece async for piece in stream_body(request, door.settings, most=_MOST_BYTES)]
        fields = parse_qs(b"".join(pieces).decode("utf-8", "replace"))
        secret = fields.get("password", [""])[-1]
        if keys and find_key(secret, keys) is None:
            raise RequestError(401, "the password is no key of this server.")
        return {"access_token": secret, "token_type": "bearer"}

    @router.get("/auth/token/valid", summary="State that the key of a request is one.")
    async def confirm() -> dict[str, str]:
        return {}
