"""The files that README.md and docs/*.md name, small and made up, for running their commands."""

import dataclasses
from pathlib import Path

import numpy as np

import makers
from bedside.bundle import write_bundle
from bedside.spec import BuildSpec, Fit, Grey, ScalePercentile, WindowLevel
from dicom_makers import make_slices, write_series
from folder_makers import make_folder, make_scans
from models_for_tests import make_card, make_plain_graph, make_spec, make_split
from runs_for_tests import make_camus, make_recipe, to_toml


def make_scratch(folder: Path) -> Path:
    """Make every input that the pages name."""
    region = makers.make_region((0, 0, 63, 47))
    makers.write_dicom(makers.make_dicom(makers.make_fan(1)), folder / "image.dcm")
    makers.write_dicom(makers.make_dicom(makers.make_fan(4), regions=[region]), folder / "cine.dcm")
    makers.write_picture(makers.make_fan(1)[0], folder / "image.png")
    (folder / "images").mkdir()
    for number in range(2):
        makers.write_picture(makers.make_fan(1, seed=number)[0], folder / f"images/{number}.png")
    scan = np.random.default_rng(0).integers(900, 1200, (6, 32, 32)).astype(np.uint16)
    write_series(make_slices(scan), folder / "ct-series")
    make_folder(folder / "my-data")
    make_scans(folder / "my-scans")
    (folder / "data" / "camus").mkdir(parents=True)
    make_camus(folder / "data" / "camus", patients=12)
    (folder / "recipes").mkdir()
    recipe = make_recipe(Path("data/camus"), epochs=1)
    recipe = dataclasses.replace(recipe, build=BuildSpec(int8=False))
    (folder / "recipes" / "camus.toml").write_text(to_toml(recipe), encoding="utf-8")
    _write_bundle(folder / "my.bedside", "US", (Grey(), Fit(), ScalePercentile()))
    _write_bundle(folder / "ct.bedside", "CT", (WindowLevel(level=0.0, width=400.0), Fit()))
    return folder


def _write_bundle(path: Path, modality: str, steps: tuple[object, ...]) -> None:
    """Write a bundle whose network is one convolution: what is bright is label 1."""
    weight = np.zeros((3, 1, 2, 2), np.float32)
    weight[1], weight[2] = 1, -1
    spec = make_spec()
    spec = dataclasses.replace(
        spec, preprocess=steps, input=dataclasses.replace(spec.input, modality=modality)
    )
    graphs = {"f32": make_plain_graph(weight=weight).SerializeToString()}
    card = make_card(untrained=False)
    write_bundle(path, spec=spec, card=card, graphs=graphs, split=make_split())
