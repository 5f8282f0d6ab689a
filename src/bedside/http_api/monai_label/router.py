"""`/info`, `/infer`, `/session` and `/datastore`: what 3D Slicer's and OHIF's plug-ins call."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from bedside.errors import InputError
from bedside.http_api.door import Door
from bedside.http_api.failures import RequestError
from bedside.http_api.image_store import ImageStore
from bedside.http_api.monai_label.datastore import add_datastore, count_images, find_image
from bedside.http_api.monai_label.forms import read_object
from bedside.http_api.monai_label.results import Wanted, answer, name_labels
from bedside.http_api.monai_label.sessions import Sessions
from bedside.http_api.uploads import Upload
from bedside.service.admission import Place
from bedside.service.engine import DEADLINE_S, Engine
from bedside.spec import DISCLAIMER
from bedside.version import __version__


def make_router(door: Door) -> APIRouter:
    """Return the router; its sessions end with the application."""
    sessions = Sessions()
    folder = door.settings.image_store
    store = ImageStore(Path(folder)) if folder else None

    @contextlib.asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        yield
        sessions.close()

    router = APIRouter(tags=["MONAI Label"], lifespan=lifespan)
    _add_info(router, door, store)
    _add_sessions(router, door, sessions)
    _add_inference(router, door, _Images(sessions, store))
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
    async def begin(request: Request, expiry: float = 0.0) -> dict[str, Any]:
        async with door.receive(request, files="files") as upload:
            session = await door.run(
                lambda: sessions.add(upload.path, upload.n_bytes, expiry_s=max(expiry, 0.0))
            )
        return {"session_id": session.id, "session_info": session.described}

    @router.get("/session/{session_id}", summary="Describe a session.")
    def describe(session_id: str, update_ts: bool = False) -> dict[str, Any]:  # noqa: FBT001, FBT002
        session = sessions.find(session_id, touch=update_ts)
        if session is None:
            raise _no_session()
        return session.described

    @router.delete("/session/{session_id}", summary="End a session.")
    def end(session_id: str) -> dict[str, Any]:
        session = sessions.remove(session_id)
        if session is None:
            raise _no_session()
        return session.described


@dataclass(frozen=True)
class _Images:
    """Where the image of a request may be.

    Attributes:
        sessions: Images sent before.
        store: Images that are kept; None if none are.
    """

    sessions: Sessions
    store: ImageStore | None

    @contextlib.contextmanager
    def keep(self, upload: Upload, session_id: str, image_id: str) -> Iterator[Path]:
        """Keep the image of a request within a block: that of a session, sent with it, or stored.

        Raises:
            RequestError: If there is none.
        """
        with self.sessions.using(session_id) as session:
            if session is not None:
                yield from _name_no_place(session.path)
            elif upload.n_bytes:
                yield upload.path
            elif self.store is not None and image_id:
                yield from _name_no_place(find_image(self.store, image_id).path)
            elif session_id:
                raise _no_session()
            else:
                raise RequestError(
                    404, "there is no image: neither sent, nor of a session, nor stored here."
                )


def _add_inference(router: APIRouter, door: Door, images: _Images) -> None:
    @router.post("/infer/{model}", summary="Segment an image.")
    async def infer(
        request: Request, model: str, image: str = "", session_id: str = "", output: str = ""
    ) -> Response:
        # Who has no place now need not send anything.
        door.engine.admission.check(door.engine.lane(model))
        async with door.receive(request, required=False) as upload:
            wanted = Wanted.read(output, read_object(upload.fields, "params"))

            def work(place: Place) -> Response:
                with images.keep(upload, session_id, image) as path:
                    return answer(door.engine.segment(model, path, place=place), wanted)

            place = door.engine.reserve(model, deadline_s=DEADLINE_S)
            return await door.run_in_place(request, place, work)


def _name_no_place(path: Path) -> Iterator[Path]:
    """Yield a path; errors that name it, which only the server knows, are raised without it."""
    try:
        yield path
    except InputError as error:
        text = str(error).replace(f"{path}/", "").replace(str(path), "the image")
        raise type(error)(text) from error


def _no_session() -> RequestError:
    return RequestError(404, "there is no such session, or it has expired. Send the image again.")
