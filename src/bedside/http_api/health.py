"""`/health` and `/metrics`: whether the process lives, takes images, and what it has done."""

from fastapi import APIRouter
from starlette.responses import JSONResponse, Response

from bedside.http_api.door import Door
from bedside.version import __version__

_PROMETHEUS = "text/plain; version=1.0.0; charset=utf-8"


def make_router(door: Door) -> APIRouter:
    """Return the router."""
    router, engine = APIRouter(tags=["health"]), door.engine

    @router.get("/health/live", summary="Answer, as the process lives.")
    async def live() -> dict[str, str]:
        return {"status": "live", "version": __version__}

    @router.get("/health", summary="State whether images are taken.")
    @router.get("/health/ready", summary="State whether images are taken.", include_in_schema=False)
    async def ready() -> JSONResponse:
        fault = engine.fault or door.observer.audit_fault
        state = "failed" if fault else "ready" if engine.is_ready else "starting"
        if engine.admission.is_closed:
            state = "stopping"
        body = {"status": state, "version": __version__, "loaded": list(engine.loaded)}
        return JSONResponse(body, 200 if state == "ready" else 503)

    @router.get("/metrics", summary="State the metrics, for Prometheus.")
    async def metrics() -> Response:
        return Response(door.observer.text(), media_type=_PROMETHEUS)

    return router
