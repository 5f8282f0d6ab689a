"""`/jobs`: images that take long, accepted at once, asked for later."""

import asyncio
import json
import time
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from bedside.http_api.door import Door
from bedside.http_api.failures import RequestError
from bedside.http_api.formats import media_type
from bedside.http_api.parameters import Parameters, describe_body
from bedside.http_api.segmentation import find_client
from bedside.io.labels import SUFFIXES
from bedside.service.jobs import Job
from bedside.service.segment_jobs import DONE, FAILED, QUEUED, RECEIVING, SegmentJobs

_LOOK_S, _LONGEST_WAIT_S = 0.1, 60.0
_LONGEST_KEY = 256


def make_router(door: Door) -> APIRouter:
    """Return the router."""
    router = APIRouter(tags=["jobs"])

    @router.post(
        "/jobs", status_code=202, summary="Have an image segmented.",
        openapi_extra=describe_body(Parameters),
    )  # fmt: skip
    async def add_job(
        request: Request,
        given: Annotated[Parameters, Query()],
        idempotency_key: Annotated[str | None, Header(max_length=_LONGEST_KEY)] = None,
    ) -> Response:
        jobs = _need_jobs(door)
        accept, client = request.headers.get("accept"), find_client(request)
        if given.model:
            door.engine.lane(given.want(accept, client).model)
        await door.run(jobs.check_room)
        async with door.receive(request) as upload:
            wanted = given.complete(upload.fields).want(accept, client)
            door.engine.lane(wanted.model)
            wanted.check_files(upload.n_files)
            job, is_new = await door.run(lambda: jobs.begin(wanted, idempotency_key))
            if is_new:
                job = await door.run(lambda: jobs.accept(job, upload.path))
        return JSONResponse(describe(job), 202, headers={"Location": f"/jobs/{job.id}"})

    _add_questions(router, door)
    return router


def _add_questions(router: APIRouter, door: Door) -> None:
    """Add the routes for jobs that are there."""

    @router.get("/jobs/{job_id}", summary="State how far a job is.")
    async def state_job(
        request: Request,
        job_id: str,
        wait_s: Annotated[float, Query(ge=0, le=_LONGEST_WAIT_S)] = 0.0,
    ) -> Response:
        until = time.monotonic() + wait_s
        jobs, job = await _find(door, request, job_id)
        while job.state in (RECEIVING, QUEUED) and time.monotonic() < until:
            await asyncio.sleep(_LOOK_S)
            jobs, job = await _find(door, request, job_id)
        return JSONResponse(await door.run(lambda: describe(job, jobs)))

    @router.get("/jobs/{job_id}/result", summary="Return the mask, or the report without one.")
    async def return_result(request: Request, job_id: str) -> Response:
        jobs, job = await _find(door, request, job_id)
        files = jobs.files(job)
        if job.state != DONE:
            raise RequestError(409, f"the job is {job.state}; it has a result when it is done.")
        if "mask" not in files:
            return FileResponse(files["report"], media_type="application/json")
        format_ = str(job.payload["format"])
        return FileResponse(
            files["mask"], media_type=media_type(format_),
            filename=f"segmentation{SUFFIXES[format_]}",
        )  # fmt: skip

    @router.get("/jobs/{job_id}/report", summary="Return the report.")
    async def return_report(request: Request, job_id: str) -> Response:
        jobs, job = await _find(door, request, job_id)
        files = jobs.files(job)
        if job.state != DONE:
            raise RequestError(409, f"the job is {job.state}; it has a report when it is done.")
        return FileResponse(files["report"], media_type="application/json")

    @router.delete("/jobs/{job_id}", summary="Cancel a job.")
    async def cancel_job(request: Request, job_id: str) -> Response:
        jobs, job = await _find(door, request, job_id)
        return JSONResponse(describe(await door.run(lambda: jobs.cancel(job))))


def describe(job: Job, jobs: SegmentJobs | None = None) -> dict[str, Any]:
    """Return a job for JSON, with its error if it has one."""
    told = {
        "id": job.id,
        "state": job.state,
        "progress": 1.0 if job.state == DONE else round(job.progress, 3),
        "model": job.payload["model"],
        "format": job.payload.get("format", job.payload["result"]),
    }
    if jobs is not None and job.state == FAILED:
        told["error"] = json.loads(jobs.files(job)["error"].read_bytes())
    return told


async def _find(door: Door, request: Request, job_id: str) -> tuple[SegmentJobs, Job]:
    """Return a job of this client.

    Raises:
        RequestError: If there is none.
    """
    jobs = _need_jobs(door)
    job = await door.run(lambda: jobs.find(job_id, find_client(request)))
    if job is None:
        raise RequestError(404, "there is no such job, or it was removed after its time.")
    return jobs, job


def _need_jobs(door: Door) -> SegmentJobs:
    if door.jobs is None:
        raise RequestError(
            501, 'this server keeps no jobs: its configuration names no folder, state = "...".'
        )
    return door.jobs
