"""`/models`: what is served."""

from typing import Any

from fastapi import APIRouter

from bedside.http_api.door import Door
from bedside.service.engine import Engine
from bedside.spec import DISCLAIMER, to_mapping


def make_router(door: Door) -> APIRouter:
    """Return the router."""
    router, engine = APIRouter(tags=["models"]), door.engine

    @router.get("/models", summary="List the models.")
    def list_models() -> dict[str, Any]:
        return {
            "models": [describe(engine, name) for name in engine.names],
            "disclaimer": DISCLAIMER,
        }

    @router.get("/models/{name}", summary="Describe a model.")
    def describe_model(name: str) -> dict[str, Any]:
        return describe(engine, name)

    return router


def describe(engine: Engine, name: str) -> dict[str, Any]:
    """Return a model for JSON.

    Raises:
        NoModelError: If there is no such model.
    """
    bundle = engine.bundle(name)
    spec, card = bundle.spec, bundle.card
    return {
        "name": name,
        "bundle": spec.name,
        "version": spec.version,
        "sha256": bundle.sha256,
        "task": spec.task,
        "modality": spec.input.modality,
        "view": spec.input.view,
        "dimensions": spec.model.spatial_dims,
        "channels": spec.input.channels,
        "channel_names": list(spec.input.channel_names),
        "optional_channels": list(spec.input.optional_channels),
        "size_px": list(spec.input.size_px),
        "labels": [
            {
                "value": label.value,
                "name": label.name,
                "color": list(label.color),
                "type": to_mapping(label.type),
            }
            for label in spec.labels
        ],
        "untrained": card.untrained,
        "license": card.license,
    }
