"""`bedside segment` with DICOM series: one case each, options for what headers leave open."""

import json

import numpy as np
import pydicom
import pytest
from pydicom.uid import MRImageStorage

from bedside.cli.main import main
from dicom_makers import make_affine, make_slices, write_series
from makers import write_picture
from uneven_makers import BALL_ML, HEAD_CT, TILT, write_uneven

SHAPE = (6, 64, 64)


def make_stored():
    stored = np.full(SHAPE, 0, np.uint16)
    stored[1:5, 20:40, 10:30] = 1500
    return stored


def segment(folder, bundle, out, *more):
    return main(["segment", str(folder), "-m", str(bundle), "-o", str(out), "--force", *more])


def make_series(folder, **choices):
    # Square pixels: the bundle shows them to its network one to one.
    affine = make_affine(spacing=(2.0, 0.8, 0.8))
    return make_slices(make_stored(), affine, modality="MR", slope=None, **choices)


@pytest.mark.parametrize("format_", ["auto", "dicom-labelmap"])
def test_a_folder_with_one_series_is_one_case(bundle, tmp_path, capsys, format_):
    datasets = make_series(tmp_path)
    write_series(datasets, tmp_path / "1.2.3")
    out = tmp_path / "out"
    assert segment(tmp_path / "1.2.3", bundle, out, "--json", "--format", format_) == 0
    case = json.loads(capsys.readouterr().out)["cases"][0]
    assert (case["source"], case["frames"], case["output"]) == ("1.2.3", 6, str(out))
    assert case["structures"][0]["volume_ml"] == pytest.approx(1600 * 0.8 * 0.8 * 2 / 1000)
    seg = pydicom.dcmread(out / "segmentation.dcm")
    assert seg.SegmentationType == ("BINARY" if format_ == "auto" else "LABELMAP")
    pixels = seg.pixel_array.reshape(-1, 64, 64)
    assert np.array_equal(pixels[pixels.any(axis=(1, 2))] == 1, make_stored()[1:5] > 0)


def test_several_series_are_several_cases_in_folders_of_their_own(bundle, tmp_path, capsys):
    for name in ("1.2.3", "1.2.4"):
        write_series(make_series(tmp_path, series=name), tmp_path / "study" / name)
    write_picture(make_stored()[2].astype(np.uint8), tmp_path / "study" / "still.png")
    out = tmp_path / "out"
    assert segment(tmp_path / "study", bundle, out) == 0
    assert "3 segmented, 0 refused" in capsys.readouterr().out
    assert {path.name for path in out.iterdir()} == {"1.2.3", "1.2.4", "still"}
    assert (out / "1.2.4" / "segmentation.dcm").is_file()


def test_a_gap_is_refused_with_the_option_that_helps(bundle, tmp_path, capsys):
    write_series(make_series(tmp_path)[:3] + make_series(tmp_path)[4:], tmp_path / "scan")
    out = tmp_path / "out"
    assert segment(tmp_path / "scan", bundle, out) == 3
    assert "--gaps interpolate" in capsys.readouterr().err
    assert not out.exists()
    assert segment(tmp_path / "scan", bundle, out, "--gaps", "interpolate") == 0
    report = json.loads((out / "report.json").read_text())
    assert any("missing" in text for text in report["warnings"])
    assert report["structures"][0]["area_px"] == [0, 400, 400, 0, 400, 0]


def test_ct_without_a_rescale_needs_a_word(bundle, tmp_path, capsys):
    write_series(make_slices(make_stored(), slope=None), tmp_path / "scan")
    assert segment(tmp_path / "scan", bundle, tmp_path / "out") == 3
    assert "--values-are-hu" in capsys.readouterr().err
    assert segment(tmp_path / "scan", bundle, tmp_path / "out", "--values-are-hu") == 0


def test_the_folder_one_stands_in_can_be_named_by_a_dot(bundle, tmp_path, capsys, monkeypatch):
    write_series(make_series(tmp_path), tmp_path / "scan")
    monkeypatch.chdir(tmp_path / "scan")
    assert segment(".", bundle, tmp_path / "out", "--json") == 0
    assert json.loads(capsys.readouterr().out)["cases"][0]["source"] == "scan"


@pytest.mark.parametrize("format_", ["auto", "dicom-labelmap", "nifti", "seg-nrrd"])
@pytest.mark.parametrize("more", [(), ("--untrusted", "--untrusted-s", "600")])
def test_a_head_ct_of_two_thicknesses_is_segmented_slice_by_slice(
    bundle, tmp_path, capsys, format_, more
):
    path, _ = write_uneven(tmp_path, HEAD_CT, lean=TILT, edit=as_mr)
    out = tmp_path / "out"
    assert segment(path, bundle, out, "--json", "--format", format_, *more) == 0
    case = json.loads(capsys.readouterr().out)["cases"][0]
    assert case["frames"] == 28
    said = " ".join(case["warnings"])
    assert "slices 1-14 are 4.002 mm apart, 14 and 15 1.08 mm, 15-28 6.999 mm" in said
    assert ("holds even slices only" in said) == (format_ in ("nifti", "seg-nrrd"))
    assert [block["spacing_mm"] for block in case["slice_blocks"]] == [4.002, 1.08, 6.999]
    # A threshold that takes what is in the least a ball is too large by half a slice and a pixel.
    assert case["structures"][0]["volume_ml"] == pytest.approx(BALL_ML, rel=0.3)


def as_mr(dataset, index):
    """Make it fit a bundle that takes whatever is above 0."""
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = MRImageStorage
    dataset.Modality = "MR"
    del dataset.RescaleSlope, dataset.RescaleIntercept
    stored = dataset.pixel_array.copy()
    stored[stored < 1000] = 0
    dataset.PixelData = stored.tobytes()


def test_a_gap_in_a_head_ct_is_refused_or_marked(bundle, tmp_path, capsys):
    path, _ = write_uneven(tmp_path, HEAD_CT, kept=[*range(17), *range(18, 28)], edit=as_mr)
    out = tmp_path / "out"
    assert segment(path, bundle, out) == 3
    assert "1 slice is missing" in capsys.readouterr().err
    assert segment(path, bundle, out, "--gaps", "interpolate") == 0
    report = json.loads((out / "report.json").read_text())
    areas = report["structures"][0]["area_px"]
    assert len(areas) == 28
    assert areas[17] == 0 < min(areas[16], areas[18])


def test_measurements_and_batch_know_uneven_slices(bundle, tmp_path):
    path, _ = write_uneven(tmp_path, HEAD_CT, edit=as_mr)
    single, many = tmp_path / "one", tmp_path / "many"
    assert segment(path, bundle, single, "--sr") == 0
    report = json.loads((single / "report.json").read_text())
    volume_ml = report["structures"][0]["volume_ml"]
    told = pydicom.dcmread(single / "measurements.dcm")
    assert f"{volume_ml}" in str(told)
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text(json.dumps({"id": "head", "source": str(path)}) + "\n")
    command = ["segment", "--manifest", str(manifest), "-m", str(bundle), "-o", str(many)]
    assert main([*command, "--force"]) == 0
    (found,) = many.rglob("report.json")
    assert json.loads(found.read_text())["structures"][0]["volume_ml"] == volume_ml
