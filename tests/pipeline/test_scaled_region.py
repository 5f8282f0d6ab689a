"""A scale holds where the file gives it, and not in another view beside it."""

import dataclasses

import numpy as np
import pytest

import bedside
from bedside.bundle import write_bundle
from bedside.spec import Fit, Grey, ScaleRange
from bright_network import SIZE, bright_network
from makers import make_dicom, make_region, write_dicom


@pytest.fixture
def bright(tmp_path):
    """A bundle that labels all that is bright, wherever it is in a frame."""
    read = bedside.load("camus-4ch").bundle
    spec = dataclasses.replace(
        read.spec,
        input=dataclasses.replace(read.spec.input, size_px=SIZE),
        preprocess=(Grey(), Fit(), ScaleRange(source="nominal")),
        model=dataclasses.replace(read.spec.model, logit_stride=1),
        postprocess=(),
        marker=None,
    )
    path = tmp_path / "bright.bedside"
    graphs = {"f32": bright_network()}
    write_bundle(path, spec=spec, card=read.card, graphs=graphs, split=read.split)
    with bedside.load(path, precision="f32", threads=1) as model:
        yield model


@pytest.mark.parametrize(
    ("columns", "known"),
    [((4, 20), True), ((40, 60), False), ((20, 50), False)],
    ids=["in the region", "in the other view", "across both"],
)
def test_labels_beside_the_region_that_the_scale_belongs_to_have_no_size_in_mm(
    bright, tmp_path, columns, known
):
    frame = np.zeros((1, *SIZE), np.uint8)
    frame[0, 20:40, slice(*columns)] = 200
    regions = [
        make_region((0, 0, 33, 63), delta_cm=(0.02, 0.02)),
        make_region((34, 0, 63, 63), delta_cm=(0.05, 0.05)),
    ]
    result = bright.segment(write_dicom(make_dicom(frame, regions=regions), tmp_path / "a.dcm"))
    cavity = result.measurements["LV cavity"]
    assert cavity.area_px == (20 * (columns[1] - columns[0]),)
    assert (cavity.area_cm2 is not None) == known
    assert (cavity.diameter_mm is not None) == known
    assert (result.spacing_mm is not None) == known
    said = "LV cavity: part of it lies outside the ultrasound region"
    assert any(said in text for text in result.warnings) != known
