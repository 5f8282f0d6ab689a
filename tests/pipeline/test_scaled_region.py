"""A scale holds where the file gives it, and not in another view beside it."""

import dataclasses

import numpy as np
import pytest

import bedside
from bedside.bundle import write_bundle
from bedside.io.source import open_source
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
    shared = result.to_dicom_seg().SharedFunctionalGroupsSequence[0]
    assert ("PixelMeasuresSequence" in shared) == known
    said = "LV cavity: part of it lies outside the ultrasound region"
    assert any(said in text for text in result.warnings) != known


def test_a_stream_of_a_film_has_sizes_in_mm_where_the_film_has(bright, tmp_path):
    frames = np.zeros((2, *SIZE), np.uint8)
    frames[0, 20:40, 4:20] = frames[1, 20:40, 40:56] = 200
    regions = [make_region((0, 0, 33, 63), delta_cm=(0.02, 0.02))]
    path = write_dicom(make_dicom(frames, regions=regions), tmp_path / "a.dcm")
    film = open_source(path).sequence
    with bright.stream(deadline_ms=1e4, sample=film) as live:
        events = [live.push(film.decode(index), index / 30) for index in range(2)]
    cavity = [event.measurements["LV cavity"] for event in events]
    assert [found.area_px for found in cavity] == [320, 320]
    assert cavity[0].area_cm2 == pytest.approx(320 * 0.02**2, abs=1e-4)
    assert (cavity[1].area_cm2, cavity[1].length_mm) == (None, None)
    assert any("lies outside the ultrasound region" in text for text in events[1].warnings)
