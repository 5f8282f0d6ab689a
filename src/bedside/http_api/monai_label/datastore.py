"""`/datastore`: images and labels that clients keep on the server."""

import contextlib
import uuid
from collections.abc import Iterator
from typing import Any, Literal

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import FileResponse, Response

from bedside.errors import OutputError
from bedside.http_api.door import Door
from bedside.http_api.failures import RequestError
from bedside.http_api.image_store import ImageStore, StoredImage, StoredLabel
from bedside.http_api.monai_label.forms import read_object
from bedside.http_api.monai_label.images import find_image
from bedside.http_api.uploads import Upload

_FINAL = "final"


def add_datastore(router: APIRouter, door: Door, store: ImageStore | None) -> None:
    """Add the routes of a datastore.

    Args:
        router: Where they are added.
        door: Receives images.
        store: Where they are kept; None refuses them.
    """

    @router.get("/datastore/", summary="List images and labels.")
    def list_all(output: Literal["stats", "all", "train"] = "stats") -> Any:
        if output == "stats":
            return count_images(store)
        images = list(store or ())
        if output == "all":
            objects = {image.id: _describe(image) for image in images}
            return {"name": "bedside", "description": "", "objects": objects}
        return [
            {"image": image.id, "label": tag} for image in images for tag in image.labels
        ]  # what others train on, named as the routes below take it

    if store is None:
        _add_refusals(router)
        return
    _add_images(router, door, store)
    _add_labels(router, door, store)


def count_images(store: ImageStore | None) -> dict[str, Any]:
    """Return how many images there are, and how many have labels, by tag."""
    tags: dict[str, int] = {}
    total = completed = 0
    for image in store or ():
        total += 1
        completed += _FINAL in image.labels
        for tag in image.labels:
            tags[tag] = tags.get(tag, 0) + 1
    return {"total": total, "completed": completed, "label_tags": tags}


def _add_refusals(router: APIRouter) -> None:
    """Refuse requests for images where none are kept, with the setting that keeps them."""

    @router.api_route(
        "/datastore/{rest:path}", methods=["GET", "HEAD", "PUT", "DELETE"], include_in_schema=False
    )
    def refuse(rest: str) -> Response:
        raise RequestError(
            409, "this server keeps no images and labels. Set image_store, a folder, in the table "
            "[http] of its configuration.",
        )  # fmt: skip


def _add_images(router: APIRouter, door: Door, store: ImageStore) -> None:
    async def add(request: Request, image: str = "") -> dict[str, str]:
        image_id = image or str(uuid.uuid4())
        async with door.receive(request) as upload:
            info = read_object(upload.fields, "params")
            with _storing():
                await door.run(
                    lambda: store.add_image(
                        image_id, upload.path, suffix=_suffix(upload), info=info
                    )
                )
        return {"image": image_id}

    def remove(id: str) -> dict[str, str]:  # noqa: A002
        store.remove_image(id)
        return {}

    for path, is_shown in (("/datastore/image", True), ("/datastore/", False)):
        for method, answer, summary in (
            ("PUT", add, "Store an image."),
            ("DELETE", remove, "Remove an image and its labels."),
        ):
            router.add_api_route(
                path, answer, methods=[method], summary=summary, include_in_schema=is_shown,
            )  # fmt: skip

    @router.head("/datastore/image", include_in_schema=False)
    @router.get("/datastore/image", summary="Send an image.")
    def send(image: str) -> Response:
        found = find_image(store, image)
        if found.path.is_dir():
            raise RequestError(404, "the image is a DICOM series, which is not sent as one file.")
        return FileResponse(found.path, filename=f"{found.id}{found.suffix}")

    @router.get("/datastore/image/info", summary="Describe an image.")
    def describe(image: str) -> dict[str, Any]:
        return dict(find_image(store, image).info)

    @router.put("/datastore/image/info", summary="Add to what is known of an image.")
    async def update(request: Request, image: str) -> dict[str, Any]:
        async with door.receive(request, required=False) as upload:
            store.update_info(find_image(store, image).id, read_object(upload.fields, "info"))
        return {}


def _add_labels(router: APIRouter, door: Door, store: ImageStore) -> None:
    @router.put("/datastore/label", summary="Store a label of an image.")
    async def add(request: Request, image: str, tag: str = "") -> dict[str, str]:
        tag = tag or _FINAL
        find_image(store, image)
        async with door.receive(request, files="label") as upload:
            info = {"params": read_object(upload.fields, "params")}
            with _storing():
                await door.run(
                    lambda: store.add_label(
                        image, tag, upload.path, suffix=_suffix(upload), info=info
                    )
                )
        return {"image": image, "label": image}

    @router.delete("/datastore/label", summary="Remove a label.")
    def remove(id: str, tag: str) -> dict[str, str]:  # noqa: A002
        store.remove_label(id, tag)
        return {}

    @router.head("/datastore/label", include_in_schema=False)
    def check(image: str, tag: str) -> Response:
        find_label(store, image, tag)
        return Response()

    @router.get("/datastore/label", summary="Send a label.")
    def send(label: str, tag: str) -> Response:
        found = find_label(store, label, tag)
        return FileResponse(found.path, filename=f"{label}{found.suffix}")

    @router.get("/datastore/label/info", summary="Describe a label.")
    def describe(label: str, tag: str) -> dict[str, Any]:
        return dict(find_label(store, label, tag).info)

    @router.put("/datastore/label/info", summary="Add to what is known of a label.")
    async def update(request: Request, label: str, tag: str) -> dict[str, Any]:
        find_label(store, label, tag)
        async with door.receive(request, required=False) as upload:
            store.update_info(label, read_object(upload.fields, "info"), tag=tag)
        return {}


def find_label(store: ImageStore, image_id: str, tag: str) -> StoredLabel:
    """Return a label of an image.

    Raises:
        RequestError: If there is none.
    """
    label = find_image(store, image_id).labels.get(tag)
    if label is None:
        raise RequestError(404, "the image has no label with this tag.")
    return label


@contextlib.contextmanager
def _storing() -> Iterator[None]:
    """Turn a folder that cannot be written into an answer that a client can act on."""
    try:
        yield
    except OutputError as error:
        raise RequestError(507, "there is no space for it on the server. Send it later.") from error


def _suffix(upload: Upload) -> str:
    """Return the end of the name for what was sent: a zip is unpacked, a series."""
    return ".dcm" if upload.path.is_dir() else upload.suffix or ".nii.gz"


def _describe(image: StoredImage) -> dict[str, Any]:
    return {
        "image": {"ext": image.suffix, "info": dict(image.info)},
        "labels": {
            tag: {"ext": label.suffix, "info": dict(label.info)}
            for tag, label in image.labels.items()
        },
    }
