"""An HTTP server with small networks, for tests of doors."""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
from PIL import Image

from bedside.bundle import write_bundle
from bedside.http_api.server import HttpServer
from bedside.http_api.settings import HttpSettings
from bedside.service.engine import Engine
from bedside.service.settings import EngineSettings, ServedModel
from bedside.spec import Fit, Grey, ScalePercentile, ZScore
from models_for_tests import make_card, make_split
from threads_for_tests import make_clouds, make_deployment, make_network

PATIENCE_S = 120.0
"""For what takes a moment; only a test that hangs needs as long."""


def write_models(folder: Path) -> tuple[ServedModel, ...]:
    """Bundles of a 2D network, "plane", and of a 3D one, "scan"."""
    specs = {
        "plane": make_deployment(2, (Grey(), Fit(), ScalePercentile())),
        "scan": make_deployment(3, (ZScore(),)),
    }
    for name, spec in specs.items():
        write_bundle(
            folder / f"{name}.bedside", spec=spec, card=make_card(), split=make_split(),
            graphs={"f32": make_network(spec.model.spatial_dims)},
        )  # fmt: skip
    return tuple(ServedModel(name, str(folder / f"{name}.bedside")) for name in specs)


@contextlib.contextmanager
def open_engine(folder: Path, **settings) -> Iterator[Engine]:
    """An engine with the models of `write_models`."""
    with Engine(EngineSettings(write_models(folder), threads=1, **settings)) as engine:
        engine.start()
        yield engine


@contextlib.contextmanager
def open_server(engine: Engine, *, jobs=None, **settings) -> Iterator[httpx.Client]:
    """A client of a server."""
    server = HttpServer(engine, HttpSettings(port=0, **settings), jobs=jobs)
    try:
        with httpx.Client(base_url=server.address, timeout=PATIENCE_S) as client:
            yield client
    finally:
        server.close(patience_s=1)


def make_png(seed: int = 0) -> bytes:
    """A picture as a PNG, each seed another."""
    file = io.BytesIO()
    Image.fromarray(make_picture(seed)).save(file, "png")
    return file.getvalue()


def make_picture(seed: int = 0) -> np.ndarray:
    """A picture, (48, 64) uint8."""
    return make_clouds(1, 48, 64, seed=seed)[0]
