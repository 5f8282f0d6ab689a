"""A server whose 3D network sees scans turned and resampled, for protocols that place masks."""

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from bedside.bundle import write_bundle
from bedside.service.engine import Engine
from bedside.service.settings import EngineSettings, ServedModel
from bedside.spec import Fit, Grey, Orient, Resample, ScalePercentile, ZScore
from models_for_tests import make_card, make_split
from threads_for_tests import make_deployment, make_network


@contextlib.contextmanager
def open_placing_engine(folder: Path) -> Iterator[Engine]:
    """An engine with a 2D network, "plane", and a 3D one for MR, "scan"."""
    scan = make_deployment(3, (Orient(), Resample(spacing_mm=(2.0, 0.9, 0.9)), ZScore()))
    specs = {
        "plane": make_deployment(2, (Grey(), Fit(), ScalePercentile())),
        "scan": replace(scan, input=replace(scan.input, modality="MR")),
    }
    models = []
    for name, spec in specs.items():
        path = folder / f"{name}.bedside"
        network = make_network(spec.model.spatial_dims)
        write_bundle(path, spec=spec, card=make_card(), split=make_split(), graphs={"f32": network})
        models.append(ServedModel(name, str(path)))
    with Engine(EngineSettings(tuple(models), threads=1)) as engine:
        engine.start()
        yield engine
