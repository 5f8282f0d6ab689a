"""`bedside segment` with measurements as SR, selections and untrained bundles."""

import importlib.util
import json

import numpy as np
import pydicom
import pytest

import makers
from bedside.cli.main import main

CINE_FILES = {"segmentation.dcm", "overlay.gif", "contact_sheet.png", "report.json", "report.html"}


def names(folder):
    """What a person sees of a folder; the marker of results is hidden."""
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


def test_measurements_are_written_as_sr_when_asked_for(sequence, bundle, tmp_path):
    out = tmp_path / "out"
    assert main(["segment", str(sequence), "-m", str(bundle), "-o", str(out), "--sr"]) == 0
    assert names(out) == CINE_FILES | {"measurements.dcm"}
    report = json.loads((out / "report.json").read_text())
    assert "measurements.dcm" in report["files"]
    sr, seg = (pydicom.dcmread(out / f"{name}.dcm") for name in ("measurements", "segmentation"))
    assert sr.Modality == "SR"
    assert str(seg.SOPInstanceUID) in str(sr)
    assert main(["segment", str(sequence), "-m", str(bundle), "-o", str(out)]) == 0
    assert names(out) == CINE_FILES


def test_an_sr_needs_a_seg_and_a_scale(bundle, tmp_path, capsys):
    path = makers.write_dicom(makers.make_dicom(makers.make_fan(2)), tmp_path / "x.dcm")
    out = tmp_path / "out"
    command = ["segment", str(path), "-m", str(bundle), "-o", str(out), "--sr"]
    assert main([*command, "--format", "nifti"]) == 2
    assert "--sr" in capsys.readouterr().err
    assert main(command) == 0
    assert "measurements.dcm" not in names(out)
    warnings = json.loads((out / "report.json").read_text())["warnings"]
    assert any("scale of the image is not known" in text for text in warnings)


def test_one_time_of_several_is_selected_and_a_mask_for_slicer_written(bundle, tmp_path, capsys):
    array = np.zeros((64, 64, 2, 3), np.uint8)
    array[10:30, 20:40, :, 1] = 150
    path, out = tmp_path / "x.nii.gz", tmp_path / "out"
    makers.write_nifti(array, path, spacing_mm=(0.8, 0.8, 1.0))
    command = ["segment", str(path), "-m", str(bundle), "-o", str(out), "--format", "seg-nrrd"]
    assert main(command) == 3
    assert "--select" in capsys.readouterr().err
    assert main([*command, "--select", "time=2"]) == 0
    assert "segmentation.seg.nrrd" in names(out)
    found = json.loads((out / "report.json").read_text())["structures"][0]
    assert found["area_px"] == [400, 400]
    # 0.8 x 0.8 x 1 mm a voxel.
    assert found["volume_ml"] == pytest.approx(800 * 0.64 / 1000)
    assert found["box_mm"] == pytest.approx([2, 16, 16], abs=0.01)
    assert main([*command, "--select", "day=2"]) == 2


def test_without_highdicom_an_sr_names_what_to_install(
    sequence, bundle, tmp_path, monkeypatch, capsys
):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "highdicom" else found(name)
    )
    out = tmp_path / "out"
    assert main(["segment", str(sequence), "-m", str(bundle), "-o", str(out), "--sr"]) == 4
    assert "highdicom>=0.28" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("more", [[], ["--jobs", "2"], ["--untrusted"]])
def test_an_untrained_bundle_writes_masks_that_say_so_and_no_measurements(
    sequence, untrained, tmp_path, capsys, more
):
    out = tmp_path / "out"
    source = sequence
    if "--jobs" in more:
        source = tmp_path / "cines"
        source.mkdir()
        (source / "a.dcm").write_bytes(sequence.read_bytes())
    command = ["segment", str(source), "-m", str(untrained), *more]
    assert main([*command, "-o", str(out), "--sr"]) in (2, 3)
    streams = capsys.readouterr()
    assert "random weights" in streams.out + streams.err
    assert not list(out.glob("**/*.dcm"))
    assert main([*command, "-o", str(tmp_path / "seg")]) == 0
    (path,) = (tmp_path / "seg").glob("**/segmentation.dcm")
    labels = [each.SegmentLabel for each in pydicom.dcmread(path).SegmentSequence]
    assert labels == [f"{label.name} (untrained)" for label in makers.LABELS]


def test_where_nothing_is_found_a_warning_takes_the_place_of_the_measurements(bundle, tmp_path):
    region = makers.make_region((0, 0, 63, 47))
    black = makers.make_dicom(np.zeros((2, 48, 64), np.uint8), regions=[region])
    source, out = makers.write_dicom(black, tmp_path / "black.dcm"), tmp_path / "out"
    assert main(["segment", str(source), "-m", str(bundle), "-o", str(out), "--sr"]) == 0
    report = json.loads((out / "report.json").read_text())
    assert report["warnings"][-1].endswith("no structure was found")
    assert not (out / "measurements.dcm").exists()
