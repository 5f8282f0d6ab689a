import dataclasses
import json
import os
import re

import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image

import makers
from bedside.bundle import read_bundle, write_bundle
from bedside.cli.main import main
from bedside.spec import DropSmall, FillHoles, KeepLargest, Size

CINE_FILES = {"segmentation.dcm", "overlay.gif", "contact_sheet.png", "report.json", "report.html"}


def names(folder):
    """What a person sees of a folder; the marker of results is hidden."""
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


def write_still(path, *, level=150):
    """A dark picture with a bright square of 20 x 20 pixels."""
    picture = np.zeros((64, 64), np.uint8)
    picture[20:40, 10:30] = level
    return makers.write_picture(picture, path)


def test_a_cine_gets_mask_film_sheet_and_report(sequence, bundle, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["segment", str(sequence), "-m", str(bundle), "-o", str(out)]) == 0
    assert names(out) == CINE_FILES
    report = json.loads((out / "report.json").read_text())
    assert report["frames"] == 12
    assert set(report["latency_ms"]) == {"decode", "preprocess", "network", "postprocess", "total"}
    assert report["bundle"]["name"] == "bright"
    assert report["bundle"]["bytes"] == bundle.stat().st_size
    assert set(report["files"]) == CINE_FILES
    assert report["startup_ms"] > 0
    assert report["peak_memory_mb"] > 10
    text = capsys.readouterr().out
    assert "cine.dcm: 12 frames" in text
    assert "Not a medical device" in text


def test_areas_are_those_of_the_mask_written_and_of_its_scale(sequence, bundle, tmp_path):
    out = tmp_path / "out"
    main(["segment", str(sequence), "-m", str(bundle), "-o", str(out), "--format", "nifti"])
    report = json.loads((out / "report.json").read_text())
    labels = np.asarray(nibabel.load(out / "segmentation.nii.gz").dataobj)
    expected = (labels == 1).sum(axis=(0, 1))
    found = report["structures"][0]
    assert found["name"] == "LV cavity"
    assert found["area_px"] == expected.tolist()
    # 0.05 cm a pixel both ways.
    np.testing.assert_allclose(found["area_cm2"], expected * 0.0025, atol=1e-4)


def test_the_seg_has_as_many_pixels_as_the_report_says(sequence, bundle, tmp_path):
    out = tmp_path / "out"
    main(["segment", str(sequence), "-m", str(bundle), "-o", str(out)])
    dataset = pydicom.dcmread(out / "segmentation.dcm")
    report = json.loads((out / "report.json").read_text())
    total = sum(sum(structure["area_px"]) for structure in report["structures"])
    assert np.count_nonzero(dataset.pixel_array) == total
    assert total > 0


def test_json_is_all_that_is_on_stdout(sequence, bundle, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["segment", str(sequence), "-m", str(bundle), "-o", str(out), "--json"]) == 0
    told = capsys.readouterr()
    printed = json.loads(told.out)
    assert printed.pop("output") == str(out)
    assert printed == json.loads((out / "report.json").read_text())


def test_a_picture_gets_a_png_mask_and_a_still(bundle, tmp_path):
    source, out = write_still(tmp_path / "still.png"), tmp_path / "out"
    assert main(["segment", str(source), "-m", str(bundle), "-o", str(out)]) == 0
    assert names(out) == {"segmentation.png", "overlay.png", "report.json", "report.html"}
    mask = np.asarray(Image.open(out / "segmentation.png"))
    truth = np.zeros((64, 64), bool)
    truth[20:40, 10:30] = True
    assert ((mask == 1) != truth).sum() == 0
    report = json.loads((out / "report.json").read_text())
    assert report["structures"][0]["area_px"] == [400]
    assert report["structures"][0]["fractional_area_change"] is None
    assert report["structures"][0]["area_cm2"] is None


def test_random_weights_are_warned_of_first(sequence, untrained, tmp_path):
    out = tmp_path / "out"
    assert main(["segment", str(sequence), "-m", str(untrained), "-o", str(out)]) == 0
    assert "random weights" in json.loads((out / "report.json").read_text())["warnings"][0]


def test_a_runtime_without_a_certificate_is_warned_of_in_every_report(
    sequence, bundle, tmp_path, capsys
):
    out, other = tmp_path / "out", ["--backend", "onnxruntime", "--json"]
    assert main(["segment", str(sequence), "-m", str(bundle), "-o", str(out), *other]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["backend"], told["precision"]) == ("onnxruntime", "f32")
    (said,) = (text for text in told["warnings"] if "not certified" in text)
    assert said.startswith("bright is not certified for onnxruntime in f32")
    assert json.loads((out / "report.json").read_text())["warnings"] == told["warnings"]
    assert "not certified for onnxruntime" in (out / "report.html").read_text()
    again = tmp_path / "again"
    assert main(["segment", str(sequence), "-m", str(bundle), "-o", str(again), "--json"]) == 0
    assert "not certified" not in capsys.readouterr().out


def test_no_report_leaves_the_report_out(sequence, bundle, tmp_path):
    out = tmp_path / "out"
    main(["segment", str(sequence), "-m", str(bundle), "-o", str(out), "--no-report"])
    assert names(out) == CINE_FILES - {"report.json", "report.html"}


def test_another_run_takes_the_place_of_the_first_and_leaves_other_files(
    sequence, bundle, tmp_path
):
    out = tmp_path / "out"
    still = write_still(tmp_path / "still.png")
    main(["segment", str(sequence), "-m", str(bundle), "-o", str(out)])
    (out / "notes.txt").write_text("mine")
    main(["segment", str(still), "-m", str(bundle), "-o", str(out)])
    expected = {"segmentation.png", "overlay.png", "report.json", "report.html", "notes.txt"}
    assert names(out) == expected


def test_a_folder_gives_each_image_its_own_and_names_the_bad_one(bundle, tmp_path, capsys):
    data, out = tmp_path / "data", tmp_path / "out"
    (data / "deep").mkdir(parents=True)
    write_still(data / "a.png")
    write_still(data / "a.jpg")
    write_still(data / "deep" / "b.png")
    (data / "notes.txt").write_text("no image")
    dataset = makers.make_dicom(makers.make_fan(2), tags={"Modality": "MR"})
    makers.write_dicom(dataset, data / "mr.dcm")
    command = ["segment", str(data), "-m", str(bundle), "-o", str(out), "--json"]
    assert main(command) == 3
    found = json.loads(capsys.readouterr().out)
    outputs = {case["source"]: case["output"] for case in found["cases"]}
    assert outputs == {
        "a.png": str(out / "a.png"),
        "a.jpg": str(out / "a.jpg"),
        "b.png": str(out / "deep" / "b"),
    }
    assert [entry["type"] for entry in found["refused"]] == ["ModalityError"]
    assert "mr.dcm" in found["refused"][0]["source"]
    assert len(found["skipped"]) == 1
    assert names(out) == {"a.png", "a.jpg", "deep"}
    assert "overlay.png" in names(out / "deep" / "b")


def test_a_folder_s_warnings_are_told_in_words_and_once(bundle, tmp_path, capsys):
    (tmp_path / "data").mkdir()
    for name in "abc":
        write_still(tmp_path / "data" / f"{name}.png")
    command = ["segment", str(tmp_path / "data"), "-m", str(bundle), "-o", str(tmp_path / "out")]
    assert main(command) == 0
    told = capsys.readouterr().out
    assert told.count("the picture has no scale") == 1
    assert "Warning: 3 images: the picture has no scale" in told
    assert "1 image" in told
    assert main([*command[:-1], str(tmp_path / "batch"), "--jobs", "2"]) == 0
    told = capsys.readouterr().out
    assert "Warning: 3 images: the picture has no scale" in told
    lines = (tmp_path / "batch" / "results.jsonl").read_text().splitlines()
    assert all("no scale" in json.loads(line)["warnings"][0] for line in lines)


def test_results_below_the_source_folder_are_not_segmented_again(bundle, tmp_path, capsys):
    write_still(tmp_path / "a.png")
    write_still(tmp_path / "b.png")
    command = ["segment", str(tmp_path), "-m", str(bundle), "-o", str(tmp_path / "out")]
    assert main(command) == 0
    assert main(command) == 0
    assert "2 segmented, 0 refused" in capsys.readouterr().out


def truncate(path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def test_a_refused_image_leaves_nothing_behind(sequence, bundle, tmp_path, capsys):
    truncate(sequence)
    out = tmp_path / "deep" / "out"
    assert main(["segment", str(sequence), "-m", str(bundle), "-o", str(out)]) == 3
    assert "cine.dcm" in capsys.readouterr().err
    assert not out.parent.exists()


def test_a_wrong_modality_is_refused_unless_forced(bundle, tmp_path, capsys):
    dataset = makers.make_dicom(makers.make_fan(2), tags={"Modality": "XA"})
    path, out = makers.write_dicom(dataset, tmp_path / "x.dcm"), tmp_path / "out"
    command = ["segment", str(path), "-m", str(bundle), "-o", str(out)]
    assert main(command) == 3
    error = capsys.readouterr().err
    assert str(path) in error
    assert "XA" in error
    assert not out.exists()
    assert main([*command, "--force"]) == 0


def test_a_failure_while_writing_keeps_what_was_there(sequence, bundle, tmp_path, monkeypatch):
    out = tmp_path / "out"
    out.mkdir()
    (out / "overlay.gif").write_bytes(b"old")

    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("bedside.report.page.write_text", fail)
    assert main(["segment", str(sequence), "-m", str(bundle), "-o", str(out)]) == 2
    assert names(out) == {"overlay.gif"}
    assert (out / "overlay.gif").read_bytes() == b"old"


def test_a_picture_cannot_have_a_dicom_seg(bundle, tmp_path, capsys):
    source, out = write_still(tmp_path / "still.png"), tmp_path / "out"
    command = ["segment", str(source), "-m", str(bundle), "-o", str(out), "--format", "dicom-seg"]
    assert main(command) == 2
    assert "still.png" in capsys.readouterr().err
    assert not out.exists()


def test_the_output_is_checked_before_the_bundle_is_read(sequence, tmp_path, capsys):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    command = ["segment", str(sequence), "-m", "no-such-bundle", "-o", str(blocked / "out")]
    assert main(command) == 2
    assert "file" in capsys.readouterr().err
    assert blocked.read_text() == "not a folder"


def test_the_source_is_never_overwritten(bundle, tmp_path, capsys):
    source = write_still(tmp_path / "segmentation.png")
    before = source.read_bytes()
    assert main(["segment", str(source), "-m", str(bundle), "-o", str(tmp_path)]) == 2
    assert "overwrite" in capsys.readouterr().err
    assert source.read_bytes() == before
    assert main(["segment", str(tmp_path), "-m", str(bundle), "-o", str(tmp_path)]) == 2


def test_a_missing_bundle_is_named(sequence, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["segment", str(sequence), "-m", "no-such-bundle", "-o", str(out)]) == 3
    assert '"no-such-bundle"' in capsys.readouterr().err
    assert not out.exists()


def test_a_terminal_sees_a_bar_and_stdout_stays_json(sequence, bundle, tmp_path, capsys):
    pty = pytest.importorskip("pty")
    import subprocess
    import sys

    leader, follower = pty.openpty()
    done = subprocess.run(
        [sys.executable, "-m", "bedside", "segment", str(sequence), "-m", str(bundle),
         "-o", str(tmp_path / "out"), "--json"],
        stderr=follower, stdout=subprocess.PIPE, check=True,
        env={**os.environ, "TERM": "xterm-256color"},
    )  # fmt: skip
    os.close(follower)
    # A terminal hands out so many bytes at a time, maybe to the middle of a letter.
    seen = os.read(leader, 65536).decode(errors="replace")
    os.close(leader)
    assert json.loads(done.stdout)["frames"] == 12
    assert re.search(r"cine\.dcm", seen)
    assert "frames" in seen


def test_channels_are_for_one_scan_and_a_bundle_that_takes_them(bundle, tmp_path, capsys):
    for name in ("a", "b"):
        makers.write_nifti(np.full((64, 64), 9, np.uint8), tmp_path / f"{name}.nii.gz")
    first, second = (str(tmp_path / f"{name}.nii.gz") for name in "ab")
    command = ["segment", first, "-m", str(bundle), "-o", str(tmp_path / "out")]
    assert main([*command, "--channels", second]) == 3
    assert "2 channels" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    command[1] = str(tmp_path)
    assert main([*command, "--channels", second]) == 2
    assert "one scan" in capsys.readouterr().err


def test_a_ceiling_is_kept_or_refused_with_one_that_would_do(bundle, sequence, tmp_path, capsys):
    arguments = ["segment", str(sequence), "-m", str(bundle), "-o"]
    assert main([*arguments, str(tmp_path / "a"), "--max-ram", "16GB"]) == 0
    report = json.loads((tmp_path / "a" / "report.json").read_text())
    assert 0 < report["predicted_memory_mb"] < 16 * 1024
    assert main([*arguments, str(tmp_path / "b"), "--max-ram", "1MB"]) == 3
    assert "--max-ram" in capsys.readouterr().err
    assert not (tmp_path / "b").exists() or not list((tmp_path / "b").iterdir())


@pytest.mark.parametrize("amount", ["much", "-1GB", "0", "1.5.2GB", "3 XB"])
def test_an_amount_of_memory_that_is_none_is_refused(bundle, sequence, tmp_path, amount, capsys):
    arguments = ["segment", str(sequence), "-m", str(bundle), "-o", str(tmp_path / "a")]
    assert main([*arguments, f"--max-ram={amount}"]) == 2
    assert "no amount of memory" in capsys.readouterr().err


def write_variant(bundle, path, **changes):
    """The same bundle with another spec."""
    read = read_bundle(bundle)
    graphs = {"f32": read.read_graph("f32")}
    spec = dataclasses.replace(read.spec, **changes)
    write_bundle(path, spec=spec, card=read.card, graphs=graphs, split=read.split)
    return path


def test_what_is_repaired_is_told_in_the_summary_the_report_and_the_page(bundle, tmp_path, capsys):
    repaired = write_variant(
        bundle, tmp_path / "repaired.bedside",
        postprocess=(KeepLargest(), FillHoles(), DropSmall(min_mm2=1)),
        priors=(Size(label=1, unit="px", most=100),),
    )  # fmt: skip
    picture = np.zeros((64, 64), np.uint8)
    picture[20:40, 10:30] = 150
    picture[30, 20] = 0
    picture[5, 5] = picture[50:53, 50] = 150
    source, out = makers.write_picture(picture, tmp_path / "still.png"), tmp_path / "out"
    assert main(["segment", str(source), "-m", str(repaired), "-o", str(out)]) == 0
    expected = [
        "2 components of LV cavity removed, 4 px",
        "1 hole of LV cavity filled, 1 px",
        "drop_small of LV cavity was left out: the scale of the image is not known",
        "LV cavity: 400 px, at most 100 expected",
    ]
    report = json.loads((out / "report.json").read_text())
    assert [change["text"] for change in report["changes"]] == expected
    assert report["changes"][0] == {
        "step": "keep_largest", "label": "LV cavity", "action": "removed", "parts": 2,
        "size_px": 4, "size_mm2": None, "size_ml": None, "frames": 1, "of_frames": 1,
        "text": expected[0],
    }  # fmt: skip
    told, page = capsys.readouterr().out, (out / "report.html").read_text()
    assert all(text in told and text in page for text in expected)
    mask = np.asarray(Image.open(out / "segmentation.png"))
    assert np.count_nonzero(mask) == 400


def test_an_untrusted_cine_gives_the_same_files(sequence, bundle, tmp_path, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")
    plain, far = tmp_path / "plain", tmp_path / "far"
    command = ["segment", str(sequence), "-m", str(bundle)]
    assert main([*command, "-o", str(plain)]) == 0
    assert main([*command, "-o", str(far), "--untrusted", "--untrusted-s", "120"]) == 0
    assert names(plain) == names(far) == CINE_FILES
    own, theirs = (pydicom.dcmread(out / "segmentation.dcm") for out in (plain, far))
    assert own.SOPInstanceUID == theirs.SOPInstanceUID
    assert own.PixelData == theirs.PixelData
    for name in ("overlay.gif", "contact_sheet.png"):
        assert (plain / name).read_bytes() == (far / name).read_bytes()
    reports = [json.loads((out / "report.json").read_text()) for out in (plain, far)]
    assert reports[0]["structures"] == reports[1]["structures"]


def test_an_untrusted_file_that_takes_too_much_is_bad_input(bundle, tmp_path, capsys):
    noise = np.random.default_rng(0).integers(0, 255, (6000, 6000), np.uint8)
    source, out = makers.write_picture(noise, tmp_path / "large.png"), tmp_path / "out"
    command = ["segment", str(source), "-m", str(bundle), "-o", str(out), "--untrusted"]
    assert main([*command, "--untrusted-mb", "20", "--untrusted-s", "120"]) == 3
    assert "--untrusted-mb" in capsys.readouterr().err
    assert not out.exists()
    assert main([*command, "--untrusted-mb", "0"]) == 2
