"""A bundle whose network is one convolution: whatever is brighter than black is label 1."""

from dataclasses import replace

import pytest

import makers
from bedside.bundle import write_bundle
from bedside.spec import (
    Card,
    DeploymentSpec,
    Fit,
    Grey,
    InputSpec,
    Interval,
    LevelSpec,
    ModelSpec,
    PrecisionResult,
    ScalePercentile,
    StructureResult,
)
from bright_network import SIZE, bright_network


@pytest.fixture(scope="session")
def bundle(tmp_path_factory):
    known = Interval(0.9123, 0.88, 0.94)
    labels = makers.LABELS
    spec = DeploymentSpec(
        name="bright",
        version="1.0",
        task="Whatever is not black",
        input=InputSpec(modality="US", channels=1, size_px=SIZE, view="any"),
        labels=labels,
        preprocess=(Grey(), Fit(), ScalePercentile()),
        model=ModelSpec("bright", 1, 4, levels=(LevelSpec("conv", 1, 1),), logit_stride=1),
    )
    card = Card(
        data="made up", source="ours", license="CC0 <test>", patients=(2, 1, 1), test_cases=1,
        structures=tuple(StructureResult(label.name, *[known] * 5) for label in labels),
        precisions=(PrecisionResult("f32", (0.9, 0.9, 0.9), 0.0, True),), parameters=8,
        gmac=0.001, seed=0, epochs=1, commit="0000000", created="2026-01-01",
        limits=("Dark structures are not seen.",),
    )  # fmt: skip
    path = tmp_path_factory.mktemp("bundle") / "bright.bedside"
    split = {"train": ("a", "b"), "val": ("c",), "test": ("d",)}
    write_bundle(path, spec=spec, card=card, graphs={"f32": bright_network()}, split=split)
    return path


@pytest.fixture
def sequence(tmp_path):
    """A DICOM cine of 12 frames with a region that fits: 0.5 mm a pixel."""
    region = makers.make_region((0, 0, 63, 47))
    dataset = makers.make_dicom(makers.make_fan(12), regions=[region])
    return makers.write_dicom(dataset, tmp_path / "cine.dcm")


@pytest.fixture
def untrained(bundle, tmp_path):
    """The same bundle, said to be untrained."""
    from bedside.bundle import read_bundle

    read = read_bundle(bundle)
    path = tmp_path / "untrained.bedside"
    card = replace(read.card, untrained=True, structures=())
    graphs = {"f32": read.read_graph("f32")}
    write_bundle(path, spec=read.spec, card=card, graphs=graphs, split=read.split)
    return path
