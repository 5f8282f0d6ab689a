"""`POST /segment`: an image in, its mask or its report out."""

import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from starlette.requests import Request
from starlette.responses import Response

from bedside.errors import UsageError, printable
from bedside.http_api.door import Door
from bedside.http_api.failures import RequestError
from bedside.http_api.formats import REPORT, choose_result, media_type
from bedside.http_api.uploads import Upload
from bedside.io.dicom.options import DicomOptions
from bedside.io.formats import find_label_format
from bedside.io.labels import SUFFIXES
from bedside.io.opened import Source
from bedside.io.read_options import ReadOptions
from bedside.report.record import report_mapping, to_json
from bedside.result import Result
from bedside.service.admission import Place
from bedside.service.engine import DEADLINE_S, Engine

_MOST_WARNING_BYTES = 4096

BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary"}},
                }
            },
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}
"""The body of a request with an image, for OpenAPI."""


@dataclass(frozen=True)
class Asked:
    """What a request asks for.

    Attributes:
        model: Name of the model.
        result: Format of labels, "auto" or `REPORT`.
        read: How the image is opened.
        force: Accept images of another modality than the model's.
    """

    model: str
    result: str
    read: ReadOptions
    force: bool = False


def make_router(door: Door) -> APIRouter:
    """Return the router."""
    router = APIRouter(tags=["segmentation"])

    @router.post("/segment", summary="Segment an image.", openapi_extra=BODY)
    async def segment(
        request: Request,
        model: str,
        format: str | None = None,  # noqa: A002
        third_axis: Literal["auto", "time", "space"] = "auto",
        gaps: Literal["refuse", "interpolate"] = "refuse",
        force: bool = False,  # noqa: FBT001, FBT002
        deadline_s: Annotated[float, Query(gt=0, le=DEADLINE_S)] = DEADLINE_S,
    ) -> Response:
        read = ReadOptions(third_axis=third_axis, dicom=DicomOptions(gaps=gaps))
        result = choose_result(format, request.headers.get("accept"))
        asked = Asked(model, result, read, force)
        n_bytes = door.check_room(request, model)
        async with door.receive(request) as upload:
            place = door.engine.reserve(model, n_bytes=n_bytes, deadline_s=deadline_s)
            return await door.run_in_place(
                request, place, lambda turn: _answer(door.engine, asked, upload, turn)
            )

    return router


def _answer(engine: Engine, asked: Asked, upload: Upload, turn: Place) -> Response:
    """Segment an upload and encode the result, in a thread."""
    source = engine.open(upload.source, read=asked.read)
    format_ = choose_format(source, asked.result)
    result = engine.segment(asked.model, source, place=turn, force=asked.force)
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
    """Return the answer with a result; its warnings are in a header too, as a JSON list."""
    headers = {"Cache-Control": "no-store", "Bedside-Warnings": _list_warnings(result)}
    if format_ == REPORT:
        text = to_json(report_mapping(result.report))
        return Response(text, media_type=media_type(format_), headers=headers)
    headers["Content-Disposition"] = f'attachment; filename="segmentation{SUFFIXES[format_]}"'
    return Response(result.to_bytes(format_), media_type=media_type(format_), headers=headers)


def _list_warnings(result: Result) -> str:
    """Return the warnings as JSON in ASCII, as many as a header should hold."""
    warnings = [" ".join(printable(text).split()) for text in result.warnings]
    told, left = json.dumps(warnings), len(warnings)
    while len(told) > _MOST_WARNING_BYTES:
        left -= 1
        told = json.dumps([*warnings[:left], f"and {len(warnings) - left} more: see the report"])
    return told
