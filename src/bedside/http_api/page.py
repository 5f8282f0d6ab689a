"""The web page under `/page/`: its own files, and those of models that run in the browser."""

import functools
import hashlib
import threading
from collections.abc import Callable
from pathlib import PurePosixPath

from fastapi import APIRouter
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from bedside.errors import BackendError
from bedside.http_api.door import Door
from bedside.service.engine import Engine
from bedside.web.model_files import make_model_files
from bedside.web.site import (
    HEADERS,
    MEDIA_TYPES,
    SITE,
    WORKER,
    complete_worker,
    describe_site,
    list_page_files,
)
from bedside.web.vendor import RUNTIME, VIEWER, Package, read_vendor_files

_START = "index.html"
_MODELS = "models"


class Page:
    """The files of the page, read when it is first asked for.

    Args:
        engine: What segments for it; its models are offered.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._lock = threading.Lock()
        # Without the runtime the server segments everything, without the viewer scans are slices.
        here = [package for package in (RUNTIME, VIEWER) if _is_here(package)]
        self.files = list_page_files(here)
        runtime, viewer = (each.title if each in here else None for each in (RUNTIME, VIEWER))
        models = [(name, engine.bundle(name).spec) for name in engine.names]
        site = describe_site(models, server="../", runtime=runtime, viewer=viewer)
        contents = {name: path.read_bytes() for name, path in self.files.items()} | {SITE: site}
        self.made = {SITE: site, WORKER: complete_worker(contents)}

    def read_model_file(self, model: str, name: str) -> bytes:
        """Return a file of a model.

        Raises:
            NoModelError: If there is no such model.
            UsageError: If the page cannot run it.
            HTTPException: If there is no such file.
        """
        self._engine.bundle(model)
        # Two that ask at once do not make them twice.
        with self._lock:
            files = self._make_model_files(model)
        if name not in files:
            raise HTTPException(404)
        return files[name]

    @functools.cached_property
    def _make_model_files(self) -> Callable[[str], dict[str, bytes]]:
        return functools.cache(lambda model: make_model_files(self._engine.bundle(model)))


def make_router(door: Door) -> APIRouter:
    """Return the router."""
    router = APIRouter(include_in_schema=False)
    open_page = functools.cache(lambda: Page(door.engine))
    lock = threading.Lock()

    def find(path: str, request: Request) -> Response:
        with lock:
            page = open_page()
        kind = MEDIA_TYPES.get(PurePosixPath(path).suffix, "application/octet-stream")
        if path in page.made:
            return _answer(page.made[path], kind, request)
        if path in page.files:
            return _answer(page.files[path].read_bytes(), kind, request)
        folder, _, rest = path.partition("/")
        model, _, name = rest.rpartition("/")
        if folder != _MODELS or not model:
            raise HTTPException(404)
        return _answer(page.read_model_file(model, name), kind, request)

    @router.get("/")
    async def go_to_page() -> Response:
        return RedirectResponse("page/")

    @router.get("/page/{path:path}")
    async def send_file(path: str, request: Request) -> Response:
        return await door.run(lambda: find(path or _START, request))

    return router


def _is_here(package: Package) -> bool:
    try:
        read_vendor_files(package)
    except BackendError:
        return False
    return True


def _answer(content: bytes, kind: str, request: Request) -> Response:
    """Return bytes with their hash as a tag; nothing if the browser has them."""
    tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {**HEADERS, "ETag": tag}
    if request.headers.get("if-none-match") == tag:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=kind, headers=headers)
