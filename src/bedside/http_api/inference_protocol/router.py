"""`/v2`: metadata, health and inference."""

import functools
import json
import time
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from bedside.errors import BedsideError, MessageError
from bedside.http_api.door import Door
from bedside.http_api.failures import answer_error
from bedside.http_api.inference_protocol.bodies import BodyBudget
from bedside.http_api.inference_protocol.messages import read_request, write_response
from bedside.http_api.inference_protocol.ways import (
    Way,
    check_tensors,
    configure,
    describe,
    find_way,
    list_names,
)
from bedside.service.admission import Place
from bedside.service.engine import DEADLINE_S
from bedside.version import __version__

_LENGTH = "Inference-Header-Content-Length"
_EXTENSIONS = ("binary_tensor_data", "model_configuration", "model_repository")


class _Route(APIRoute):
    """A route whose errors have the form of the protocol: `{"error": "a sentence"}`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def answer(request: Request) -> Response:
            try:
                return await handle(request)
            except BedsideError as error:
                answered = answer_error(request, error)
                said = json.loads(bytes(answered.body))["error"]["message"]
                # The protocol knows one status for whatever is wrong with a request.
                status = 400 if answered.status_code == 422 else answered.status_code
                retry = answered.headers.get("retry-after")
                headers = {"Retry-After": retry} if retry else {}
                return JSONResponse({"error": said}, status, headers=headers)

        return answer


def make_router(door: Door) -> APIRouter:
    """Return the router."""
    router = APIRouter(prefix="/v2", tags=["Open Inference Protocol"], route_class=_Route)
    _add_state(router, door)
    _add_models(router, door)
    budget = BodyBudget(door)

    @router.post("/models/{name}/infer", summary="Run a model on tensors.")
    async def infer(request: Request, name: str) -> Response:
        return await _infer(door, budget, request, find_way(door.engine, name), name)

    @router.post("/models/{name}/versions/{version}/infer", include_in_schema=False)
    async def infer_version(request: Request, name: str, version: str) -> Response:
        return await _infer(door, budget, request, find_way(door.engine, name, version), name)

    return router


def _add_state(router: APIRouter, door: Door) -> None:
    """Add what is said of the server."""

    @router.get("", summary="Describe the server.")
    def describe_server() -> dict[str, Any]:
        return {"name": "bedside", "version": __version__, "extensions": list(_EXTENSIONS)}

    @router.get("/health/live", summary="State that the server answers.")
    async def state_live() -> dict[str, bool]:
        return {"live": True}

    @router.get("/health/ready", summary="State whether requests are taken.")
    async def state_ready() -> JSONResponse:
        is_ready = door.engine.is_ready and door.engine.fault is None
        return JSONResponse({"ready": is_ready}, 200 if is_ready else 503)

    @router.post("/repository/index", summary="List the models.")
    def list_models() -> list[dict[str, str]]:
        return [
            {"name": name, "version": find_way(door.engine, name).spec.version, "state": "READY",
             "reason": ""}
            for name in list_names(door.engine)
        ]  # fmt: skip


def _add_models(router: APIRouter, door: Door) -> None:
    """Add what is said of a model, with its version in the address or without."""

    def describe_model(name: str, version: str = "") -> dict[str, Any]:
        return describe(name, find_way(door.engine, name, version))

    def configure_model(name: str, version: str = "") -> dict[str, Any]:
        return configure(name, find_way(door.engine, name, version))

    def state_model(name: str, version: str = "") -> JSONResponse:
        find_way(door.engine, name, version)
        is_ready = door.engine.is_ready and door.engine.fault is None
        return JSONResponse({"name": name, "ready": is_ready}, 200 if is_ready else 503)

    for path, answer, summary in (
        ("", describe_model, "Describe a model."),
        ("/config", configure_model, "Describe a model in Triton's words."),
        ("/ready", state_model, "State whether a model is ready."),
    ):
        for place, is_shown in (("", True), ("/versions/{version}", False)):
            router.add_api_route(
                f"/models/{{name}}{place}{path}", answer, summary=summary,
                include_in_schema=is_shown, response_model=None,
            )  # fmt: skip


async def _infer(door: Door, budget: BodyBudget, request: Request, way: Way, name: str) -> Response:
    """Receive a request, run it when it has its turn, and return its answer."""
    length = _read_length(request.headers.get(_LENGTH))
    admission = door.engine.admission
    # Who has no place now need not send anything.
    key = f"{way.lane.name} tensors {name} {budget.check(request).bit_length()}"
    admission.check(way.lane, key)
    async with budget.receive(request) as body:
        place = admission.reserve(way.lane, key, deadline_s=DEADLINE_S)
        work = functools.partial(_run, way, name, body, length)
        return await door.run_in_place(request, place, work)


def _read_length(text: str | None) -> int | None:
    """Return the stated length of the JSON; None if the body is nothing else.

    Raises:
        MessageError: If it is no number.
    """
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise MessageError(f"{_LENGTH} is {text!r:.40}; expected a number of bytes.")
    return int(text)


def _run(way: Way, name: str, body: bytearray, length: int | None, place: Place) -> Response:
    """Run a request, in a thread."""
    asked = read_request(body, length)
    check_tensors(way, asked)
    if asked.timeout_s is not None:
        place.until = min(place.until, time.monotonic() + asked.timeout_s)
    array, notes = way.run(asked, place)
    head: dict[str, Any] = {"model_name": name, "model_version": way.spec.version}
    if asked.id:
        head["id"] = asked.id
    if notes:
        head["parameters"] = dict(notes)
    is_binary = asked.outputs.get(way.output.name, asked.binary)
    content, json_bytes = write_response(head, [(way.output.name, array, is_binary)])
    headers = {"Cache-Control": "no-store"}
    if json_bytes is None:
        return Response(content, media_type="application/json", headers=headers)
    headers[_LENGTH] = str(json_bytes)
    return Response(content, media_type="application/octet-stream", headers=headers)
