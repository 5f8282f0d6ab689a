"""Frames in time are reported as frames: in every format, by every way in, and on their grid."""

import json

import nibabel
import nrrd
import numpy as np
import pytest
import SimpleITK

from bedside.cli.main import main
from makers import make_fan

FILM = make_fan(5)  # (5, 48, 64) uint8, or (5, 48, 64, 1)


def frames():
    return FILM if FILM.ndim == 3 else FILM[..., 0]


def write(path, spacing=(0.5, 0.5, 1.5)):
    """Write frames on a third axis, as a scan would be."""
    array = frames()
    if path.suffix == ".nrrd":
        header = {"space": "LPS", "space directions": np.diag(spacing), "space origin": [1, 2, 3]}
        nrrd.write(str(path), array.T, header=header)
    elif path.suffix == ".mha":
        image = SimpleITK.GetImageFromArray(array)
        image.SetSpacing(spacing)
        SimpleITK.WriteImage(image, str(path))
    else:
        image = nibabel.Nifti1Image(array.T, np.diag([*spacing, 1]))
        nibabel.save(image, path)
    return path


def segment(capsys, *words):
    assert main(["segment", *map(str, words), "--precision", "f32", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.mha", "a.nrrd"])
@pytest.mark.parametrize("untrusted", [(), ("--untrusted",)])
def test_frames_on_a_third_axis_are_frames_for_ultrasound(
    bundle, tmp_path, capsys, name, untrusted
):
    path = write(tmp_path / name)
    output = tmp_path / "out"
    report = segment(capsys, path, "-m", bundle, "-o", output, *untrusted)
    assert report["slices"] is False
    assert report["frames"] == 5
    assert report["structures"][0]["volume_ml"] is None
    assert len(report["structures"][0]["area_cm2"]) == 5
    assert any("--third-axis space" in text for text in report["warnings"])
    page = (output / "report.html").read_text()
    assert "5 frames" in page
    assert " ml" not in page
    mask = next(output.glob("segmentation.*"))
    if name.endswith("nrrd"):
        back, header = nrrd.read(str(mask))
        assert np.allclose(header["space directions"], np.diag([0.5, 0.5, 1.5]))
        assert np.allclose(header["space origin"], [1, 2, 3])
        assert back.shape == (64, 48, 5)
    else:
        back = SimpleITK.ReadImage(str(mask))
        image = SimpleITK.ReadImage(str(path))
        assert back.GetSize() == image.GetSize()
        assert np.allclose(back.GetSpacing(), image.GetSpacing())
        assert np.allclose(back.GetOrigin(), image.GetOrigin())


@pytest.mark.parametrize("name", ["a.nii.gz", "a.mha", "a.nrrd"])
@pytest.mark.parametrize("untrusted", [(), ("--untrusted",)])
def test_who_knows_better_says_so(bundle, tmp_path, capsys, name, untrusted):
    path = write(tmp_path / name)
    words = [path, "-m", bundle, "-o", tmp_path / "out", *untrusted]
    report = segment(capsys, *words, "--third-axis", "space")
    assert report["slices"] is True
    assert report["structures"][0]["volume_ml"] > 0
    assert not any("third axis" in text for text in report["warnings"])
    report = segment(capsys, *words, "--third-axis", "time")
    assert report["slices"] is False
    assert not any("third axis" in text for text in report["warnings"])


def test_one_slice_at_several_times_is_a_film_for_sure(bundle, tmp_path, capsys):
    image = nibabel.Nifti1Image(frames().T[:, :, None], np.diag([0.5, 0.5, 3, 1]))
    image.header.set_xyzt_units("mm", "msec")
    image.header["pixdim"][4] = 40
    path = tmp_path / "a.nii.gz"
    nibabel.save(image, path)
    output = tmp_path / "out"
    report = segment(capsys, path, "-m", bundle, "-o", output)
    assert (report["frames"], report["slices"], report["frame_time_ms"]) == (5, False, 40.0)
    assert not any("third axis" in text for text in report["warnings"])
    back = nibabel.load(output / "segmentation.nii.gz")
    assert back.shape == (64, 48, 1, 5)
    assert np.array_equal(back.affine, image.affine)
    words = ["segment", path, "-m", bundle, "-o", output, "--third-axis", "space"]
    assert main(list(map(str, words))) == 3
    assert "5 frames follow each other in time" in capsys.readouterr().err


def test_a_manifest_says_it_case_by_case(bundle, tmp_path, capsys):
    write(tmp_path / "a.nii.gz")
    lines = [{"id": "film", "source": "a.nii.gz"},
             {"id": "scan", "source": "a.nii.gz", "third_axis": "space"}]  # fmt: skip
    manifest = tmp_path / "cases.jsonl"
    manifest.write_text("\n".join(map(json.dumps, lines)))
    output = tmp_path / "out"
    words = ["segment", "--manifest", manifest, "-m", bundle, "-o", output, "--precision", "f32"]
    assert main(list(map(str, words))) == 0
    told = {
        name: json.loads((output / name / "report.json").read_text())["slices"]
        for name in ("film", "scan")
    }
    assert told == {"film": False, "scan": True}
    capsys.readouterr()
    # What is said of a case is part of what its results stand on.
    manifest.write_text("\n".join(json.dumps(line | {"third_axis": "space"}) for line in lines))
    assert main([*map(str, words), "--resume"]) == 0
    report = json.loads((output / "film" / "report.json").read_text())
    assert report["slices"] is True


@pytest.mark.parametrize("name", ["a.nii.gz", "a.mha", "a.nrrd"])
def test_a_scan_of_several_is_a_scan_since_time_has_an_axis_of_its_own(
    bundle, tmp_path, capsys, name
):
    scan = SimpleITK.GetImageFromArray(frames())
    image = SimpleITK.JoinSeries([scan, scan])
    image.SetSpacing((0.5, 0.5, 2.0, 1.0))
    SimpleITK.WriteImage(image, str(tmp_path / name))
    report = segment(
        capsys, tmp_path / name, "-m", bundle, "-o", tmp_path / "out", "--select", "time=2"
    )
    assert report["slices"] is True
    assert report["structures"][0]["volume_ml"] > 0


@pytest.mark.parametrize("name", ["a.nii.gz", "a.mha", "a.nrrd"])
def test_a_grid_of_defaults_gives_pixels(bundle, tmp_path, capsys, name):
    path = tmp_path / name
    if name == "a.nii.gz":
        nibabel.save(nibabel.Nifti1Image(frames().T, np.eye(4)), path)
    else:
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(frames()), str(path))
    report = segment(capsys, path, "-m", bundle, "-o", tmp_path / "out", "--third-axis", "space")
    assert report["slices"] is True
    assert report["spacing_mm"] is None
    assert report["structures"][0]["area_cm2"] is None
    assert report["structures"][0]["volume_ml"] is None
    assert any("what programs write" in text for text in report["warnings"])
