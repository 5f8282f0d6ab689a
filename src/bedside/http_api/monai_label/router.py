"""`/info`, `/infer`, `/session` and `/datastore`: what 3D Slicer's and OHIF's plug-ins call."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from bedside.http_api.door import Door
from bedside.http_api.image_store import ImageStore
from bedside.http_api.monai_label.auth import add_auth
from bedside.http_api.monai_label.datastore import add_datastore, count_images
from bedside.http_api.monai_label.forms import read_object
from bedside.http_api.monai_label.images import Images, no_session
from bedside.http_api.monai_label.results import Wanted, answer, name_labels
from bedside.http_api.monai_label.sessions import Sessions
from bedside.service.admission import Place
from bedside.service.engine import DEADLINE_S, Engine
from bedside.spec import DISCLAIMER
from bedside.version import __version__


def make_router(door: Door) -> APIRouter:
    """Return the router; its sessions end with the application."""
    settings = door.settings
    sessions = Sessions(door.folder, max_bytes=settings.spool_mb * 2**20)
    store = ImageStore(Path(settings.image_store)) if settings.image_store else None
    archive = None
    if settings.archive_url:
        from bedside.http_api.monai_label.archive import Archive

        archive = Archive(settings.archive_url, max_bytes=settings.unpacked_mb * 2**20)

    @contextlib.asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        yield
        sessions.close()

    router = APIRouter(tags=["MONAI Label"], lifespan=lifespan)
    add_auth(router, door)
    _add_info(router, door, store)
    _add_sessions(router, door, sessions)
    _add_inference(router, door, Images(sessions, door.folder, store, archive))
    add_datastore(router, door, store)
    return router


def _add_info(router: APIRouter, door: Door, store: ImageStore | None) -> None:
    @router.get("/info/", summary="Describe the models.")
    def describe() -> dict[str, Any]:
        models = {name: describe_model(door.engine, name) for name in door.engine.names}
        labels = dict.fromkeys(name for model in models.values() for name in model["labels"])
        return {
            "name": "bedside",
            "description": DISCLAIMER,
            "version": __version__,
            "labels": list(labels),
            "models": models,
            # What is not here: nothing is trained, and no sample is chosen.
            "trainers": {}, "strategies": {}, "scoring": {}, "train_stats": {},
            "datastore": count_images(store),
        }  # fmt: skip


def describe_model(engine: Engine, name: str) -> dict[str, Any]:
    """Return a model as MONAI Label describes it.

    Raises:
        NoModelError: If there is no such model.
    """
    spec = engine.bundle(name).spec
    return {
        "type": "segmentation",
        "labels": name_labels(spec.labels),
        "dimension": spec.model.spatial_dims,
        "description": spec.task,
        "config": {},
    }


def _add_sessions(router: APIRouter, door: Door, sessions: Sessions) -> None:
    @router.put("/session/", summary="Send an image that is segmented several times.")
    async def begin(request: Request, expiry: int = 0) -> dict[str, Any]:
        async with door.receive(request, files="files") as upload:
            session = await door.run(lambda: sessions.add(upload.path, expiry_s=max(expiry, 0)))
        return {"session_id": session.id, "session_info": session.described}

    @router.get("/session/{session_id}", summary="Describe a session.")
    def describe(session_id: str, update_ts: bool = False) -> dict[str, Any]:  # noqa: FBT001, FBT002
        session = sessions.find(session_id, touch=update_ts)
        if session is None:
            raise no_session()
        return session.described

    @router.delete("/session/{session_id}", summary="End a session.")
    def end(session_id: str) -> dict[str, Any]:
        session = sessions.remove(session_id)
        if session is None:
            raise no_session()
        return session.described


def _add_inference(router: APIRouter, door: Door, images: Images) -> None:
    @router.post("/infer/{model}", summary="Segment an image.")
    async def infer(
        request: Request, model: str, image: str = "", session_id: str = "", output: str = ""
    ) -> Response:
        n_bytes = door.check_room(request, model)
        async with door.receive(request, required=False) as upload:
            wanted = Wanted.read(output, read_object(upload.fields, "params"))
            session = await door.run(lambda: images.bring(upload, session_id, image))

            def work(place: Place) -> Response:
                with images.keep(upload, session, image) as path:
                    return answer(door.engine.segment(model, path, place=place), wanted)

            place = door.engine.reserve(model, n_bytes=n_bytes, deadline_s=DEADLINE_S)
            return await door.run_in_place(request, place, work)
