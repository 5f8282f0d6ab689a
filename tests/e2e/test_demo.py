"""The main job on the one real cine that every machine can get, with the shipped bundle."""

import json
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file

from bedside.bundle import find_bundle, read_bundle
from bedside.cli.main import main
from bedside.io.own_results import MARKER
from bedside.io.source import open_source
from bedside.segment import open_segmenter
from makers import make_dicom, make_fan, make_region, write_dicom

SONOSITE = Path(get_testdata_file("examples_ybr_color.dcm", download=False))


@pytest.fixture(scope="module")
def bundle():
    return read_bundle(find_bundle("camus-4ch"))


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "out"
    assert main(["demo", "-o", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def report(output):
    return json.loads((output / "report.json").read_text())


@pytest.fixture(scope="module")
def labels(bundle, report):
    segmenter = open_segmenter(
        bundle, backend=report["backend"], precision=report["precision"], threads=report["threads"]
    )
    return segmenter.segment_sequence(open_source(SONOSITE).sequence).labels.array


def test_everything_that_was_promised_is_there(output):
    names = {path.name for path in output.iterdir()}
    assert names >= {"segmentation.dcm", "contact_sheet.png", "report.json", "report.html"}
    assert names & {"overlay.gif", "overlay.mp4"}
    assert not [name for name in names - {MARKER} if name.startswith(".")]


def test_the_report_says_at_least_what_it_must(report, bundle):
    assert report["frames"] == 30
    for stage in ("decode", "preprocess", "network", "postprocess", "total"):
        spread = report["latency_ms"][stage]
        assert 0 < spread["p50"] <= spread["p95"] <= spread["p99"]
    assert report["fps"] > 0
    assert report["startup_ms"] > 0
    assert report["peak_memory_mb"] > 20
    assert report["bundle"]["sha256"] == bundle.sha256
    assert report["bundle"]["bytes"] == bundle.path.stat().st_size
    assert "NC" in report["bundle"]["license"]
    assert report["backend"] in ("openvino", "onnxruntime")  # as the clock chose
    assert {"precision", "threads", "warnings"} <= set(report)


def test_a_calibration_that_does_not_fit_is_not_believed(report):
    assert all(structure["area_cm2"] is None for structure in report["structures"])
    assert any("595" in warning for warning in report["warnings"])


def test_the_seg_reads_back_to_the_very_masks_through_two_readers(output, labels):
    path = output / "segmentation.dcm"
    plain = pydicom.dcmread(path)
    source = pydicom.dcmread(SONOSITE)
    assert (plain.Rows, plain.Columns) == (source.Rows, source.Columns)
    seg = highdicom.seg.segread(path)
    read = np.zeros_like(labels)
    for item, mask in zip(plain.PerFrameFunctionalGroupsSequence, plain.pixel_array, strict=True):
        number = item.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        image = item.DerivationImageSequence[0].SourceImageSequence[0]
        assert image.ReferencedSOPInstanceUID == source.SOPInstanceUID
        read[int(image.ReferencedFrameNumber) - 1][mask > 0] = number
    assert (read == labels).all()
    assert [description.SegmentLabel for description in seg.SegmentSequence] == [
        "LV cavity",
        "LV myocardium",
        "Left atrium",
    ]


def test_areas_are_those_of_the_masks(report, labels):
    for value, structure in enumerate(report["structures"], 1):
        assert structure["area_px"] == (labels == value).sum(axis=(1, 2)).tolist()


def test_the_heart_is_where_it_is_and_beats(labels):
    # Read off the film by eye: the cavity's centre lies right of the septum (column 152) and
    # left of the lateral wall (column 205), between the apex (row 45) and the valve (row 130);
    # the atrium lies below the valve.
    for frame in labels:
        cavity, atrium = (np.argwhere(frame == value).mean(axis=0) for value in (1, 3))
        assert 45 < cavity[0] < 130
        assert 152 < cavity[1] < 205
        assert atrium[0] > 125
    area = (labels == 1).sum(axis=(1, 2))
    assert 0.1 < 1 - area.min() / area.max() < 0.7


def test_with_a_region_that_fits_square_centimetres_are_reported(tmp_path):
    frames = make_fan(3, 96, 128)
    dataset = make_dicom(frames, regions=[make_region((0, 0, 127, 95))])
    path = write_dicom(dataset, tmp_path / "cine.dcm")
    assert main(["segment", str(path), "-m", "camus-4ch", "-o", str(tmp_path / "out")]) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    for structure in report["structures"]:
        expected = [area * 0.05**2 for area in structure["area_px"]]
        assert structure["area_cm2"] == pytest.approx(expected, rel=1e-3)
