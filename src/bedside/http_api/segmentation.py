"""`POST /segment`: an image in, its mask or its report out."""

import json
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from bedside.errors import UsageError, printable
from bedside.http_api.door import Door
from bedside.http_api.failures import RequestError
from bedside.http_api.formats import REPORT, media_type
from bedside.http_api.parameters import TimedParameters, describe_body
from bedside.http_api.uploads import Upload
from bedside.io.formats import find_label_format
from bedside.io.labels import SUFFIXES
from bedside.io.opened import Source
from bedside.result import Result
from bedside.service.admission import Place
from bedside.service.engine import Engine
from bedside.service.opening import open_wanted
from bedside.service.wanted import Wanted, in_service_words, write_report

_MOST_WARNING_BYTES = 4096


def make_router(door: Door) -> APIRouter:
    """Return the router."""
    router, body = APIRouter(tags=["segmentation"]), describe_body(TimedParameters)

    @router.post("/segment", summary="Segment an image.", openapi_extra=body)
    async def segment(request: Request, given: Annotated[TimedParameters, Query()]) -> Response:
        accept, client = request.headers.get("accept"), find_client(request)
        n_bytes = 0
        if given.model:
            given.want(accept, client)  # what has no meaning need not be received
            n_bytes = door.check_room(request, given.model)
        async with door.receive(request) as upload:
            asked = given.complete(upload.fields)
            wanted = asked.want(accept, client)
            wanted.check_files(upload.n_files)
            place = door.engine.reserve(
                wanted.model, n_bytes=n_bytes or upload.n_bytes, deadline_s=asked.deadline_s
            )
            return await door.run_in_place(
                request, place, lambda turn: _answer(door.engine, wanted, upload, turn)
            )

    return router


def find_client(request: Request) -> str:
    """Return the name of the key of a request; empty without one."""
    return str(getattr(request.state, "client", ""))


def _answer(engine: Engine, wanted: Wanted, upload: Upload, turn: Place) -> Response:
    """Segment an upload and encode the result, in a thread."""
    source = open_wanted(engine, wanted, upload.source)
    format_ = choose_format(source, wanted.result)
    result = engine.segment(wanted.model, source, place=turn, force=wanted.force)
    wanted.check_gate(result)
    return encode(result, format_)


def choose_format(source: Source, result: str) -> str:
    """Return the format for the result of an image, before it is segmented.

    Raises:
        RequestError: If its labels cannot be in that format.
    """
    if result == REPORT:
        return REPORT
    try:
        format_ = find_label_format(result, source.kind, source.path).name
    except UsageError as error:
        raise RequestError(
            406, "the image is not DICOM, so its mask cannot be. Accept application/gzip (NIfTI)."
        ) from error
    if format_ == "png" and len(source.sequence) > 1:
        raise RequestError(
            406, f"a PNG holds one frame, the image has {len(source.sequence)}. "
            "Accept application/gzip (NIfTI).",
        )  # fmt: skip
    return format_


def encode(result: Result, format_: str) -> Response:
    """Return the answer with a result; headers hold its warnings and confidence too, as JSON."""
    headers = {"Cache-Control": "no-store", "Bedside-Warnings": _list_warnings(result)}
    if result.confidence:
        sure = {name: vars(each) for name, each in result.confidence.items()}
        headers["Bedside-Confidence"] = json.dumps(sure)
    if format_ == REPORT:
        return Response(write_report(result), media_type=media_type(format_), headers=headers)
    headers["Content-Disposition"] = f'attachment; filename="segmentation{SUFFIXES[format_]}"'
    return Response(result.to_bytes(format_), media_type=media_type(format_), headers=headers)


def _list_warnings(result: Result) -> str:
    """Return the warnings as JSON in ASCII, as many as a header should hold."""
    warnings = [
        " ".join(printable(text).split()) for text in map(in_service_words, result.warnings)
    ]
    told, left = json.dumps(warnings), len(warnings)
    while len(told) > _MOST_WARNING_BYTES:
        left -= 1
        told = json.dumps([*warnings[:left], f"and {len(warnings) - left} more: see the report"])
    return told
