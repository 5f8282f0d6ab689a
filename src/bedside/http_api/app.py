"""The HTTP door as an ASGI application: routers from a table, errors as JSON."""

import contextlib
from collections.abc import AsyncIterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from bedside.errors import BackendError, install_command
from bedside.http_api.routers import ROUTERS
from bedside.http_api.settings import HttpSettings
from bedside.version import __version__

if TYPE_CHECKING:
    from fastapi import FastAPI

    from bedside.http_api.dicomweb.intake import Intake
    from bedside.http_api.door import Door
    from bedside.service.engine import Engine
    from bedside.service.observer import Observer
    from bedside.service.segment_jobs import SegmentJobs


def create_app(
    engine: "Engine",
    settings: HttpSettings | None = None,
    *,
    observer: "Observer | None" = None,
    jobs: "SegmentJobs | None" = None,
    folder: Path | None = None,
    routers: Sequence[str] = ROUTERS,
    intake: "Intake | None" = None,
) -> "FastAPI":
    """Return the application.

    Args:
        engine: Segments; it stays open when the application ends.
        settings: Limits.
        observer: Notes what is answered; None for one of its own.
        jobs: Works off what is accepted for later; None for no jobs.
        folder: Where files of requests are; None for the system's own place.
        routers: Rows of the table of routers.
        intake: Where instances go that DICOMweb stores; None if no node takes them.

    Raises:
        BackendError: If what serves HTTP is not installed.
    """
    try:
        from fastapi import FastAPI
    except ImportError as error:
        raise BackendError(
            f"HTTP needs packages that are missing: {install_command('serve')}"
        ) from error
    from bedside.http_api.door import Door
    from bedside.service.observer import Observer

    door = Door(
        engine, settings or HttpSettings(), observer=observer or Observer(engine), jobs=jobs,
        folder=folder, intake=intake,
    )  # fmt: skip

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        door.close()

    app = FastAPI(
        title="bedside",
        version=__version__,
        description="Segments medical images. Research use only, not a medical device.",
        # Their pages load scripts from elsewhere.
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    _complete(app, door)
    for row in routers:
        module, _, function = row.partition(":")
        app.include_router(getattr(import_module(module), function)(door))
    return app


def _complete(app: "FastAPI", door: "Door") -> None:
    """Add the form of errors, and who may come in."""
    from fastapi.exceptions import RequestValidationError
    from starlette.exceptions import HTTPException
    from starlette.middleware.cors import CORSMiddleware

    from bedside.errors import BedsideError
    from bedside.http_api.failures import answer_error, answer_refused
    from bedside.http_api.guard import Guard

    app.add_exception_handler(BedsideError, answer_error)
    app.add_exception_handler(Exception, answer_error)
    app.add_exception_handler(RequestValidationError, answer_refused)
    app.add_exception_handler(HTTPException, answer_refused)
    app.add_middleware(
        Guard, settings=door.settings, observer=door.observer, models=door.engine.names,
        refuse_early=door.refuse_early,
    )  # fmt: skip
    if door.settings.origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=door.settings.origins, allow_methods=["*"],
            allow_headers=["*"],
            expose_headers=["Bedside-Confidence", "Bedside-Warnings", "Content-Disposition"],
        )  # fmt: skip
