"""A case is run again from its report, and what differs is named."""

import json
from dataclasses import replace

import numpy as np
import pytest

import makers
from bedside.bundle import read_bundle
from bedside.bundle.store import write_with_card
from bedside.cli.main import main
from bedside.evidence.replay import read_case
from bedside.io.image import open_image
from bedside.io.read_options import ReadOptions
from bedside.report.provenance import hash_labels, identify_input
from dicom_makers import make_slices, write_series

pytest_plugins = ["batch_fixtures"]


@pytest.fixture
def image(tmp_path):
    return makers.write_picture(makers.make_fan(1)[0], tmp_path / "image.png")


@pytest.fixture
def report(bundle, image, tmp_path, capsys):
    call = ["segment", str(image), "-m", str(bundle), "-o", str(tmp_path / "out"), "--threads", "1"]
    assert main([*call, "--pixel-spacing", "0.4,0.5", "--precision", "default"]) == 0
    return tmp_path / "out" / "report.json"


def run(report, bundle, capsys, *options, code):
    capsys.readouterr()
    assert main(["replay", str(report), "-m", str(bundle), "--json", *options]) == code
    return json.loads(capsys.readouterr().out)


def change(report, **values):
    found = {**json.loads(report.read_text()), **values}
    report.write_text(json.dumps(found))


def test_the_same_case_has_the_very_same_labels(report, bundle, capsys):
    found = run(report, bundle, capsys, code=0)
    assert found["same_labels"]
    assert found["same_case"]
    assert found["differences"] == []
    assert found["labels_sha256"]["now"] == json.loads(report.read_text())["labels_sha256"]
    assert read_case(report).choices.pixel_spacing_mm == (0.4, 0.5)


def test_another_image_is_named_with_what_it_changes(report, bundle, tmp_path, capsys):
    other = makers.write_picture(makers.make_fan(1, seed=5)[0][:, ::-1], tmp_path / "other.png")
    found = run(report, bundle, capsys, "--input", str(other), code=3)
    assert not found["same_case"]
    assert "the image has sha256" in found["differences"][0]
    assert found["same_labels"] or len(found["differences"]) > 1


def test_another_bundle_is_named_though_its_labels_are_the_same(report, bundle, tmp_path, capsys):
    read = read_bundle(bundle)
    other = tmp_path / "other.bedside"
    write_with_card(other, read, replace(read.card, seed=99))
    found = run(report, other, capsys, code=3)
    assert found["same_labels"]
    assert not found["same_case"]
    assert read.sha256 in found["differences"][0]


def test_other_labels_and_another_version_are_named(report, bundle, capsys):
    change(report, bedside_version="0.0.1")
    found = run(report, bundle, capsys, code=0)
    (difference,) = found["differences"]
    assert difference.startswith("bedside_version is ")
    assert "0.0.1" in difference
    areas = json.loads(report.read_text())["structures"]
    areas[0]["area_px"][0] += 7
    change(report, labels_sha256="0" * 64, structures=areas)
    found = run(report, bundle, capsys, code=3)
    assert not found["same_labels"]
    assert (
        f"{areas[0]['name']}: another area in 1 of 1 images, by at most 7 pixels"
        in (found["differences"])
    )


def test_another_precision_is_named(report, bundle, capsys):
    change(report, precision="bf16")
    found = run(report, bundle, capsys, "--precision", "f32", code=0)
    assert found["differences"] == ["precision is f32; the report's is bf16"]


def test_a_report_without_hashes_and_a_lost_image_are_refused(report, bundle, image, capsys):
    image.unlink()
    assert main(["replay", str(report), "-m", str(bundle)]) == 2
    assert "--input" in capsys.readouterr().err
    change(report, options={"gait": "warn"})
    assert main(["replay", str(report), "-m", str(bundle)]) == 3
    assert "gait" in capsys.readouterr().err
    old = json.loads(report.read_text())
    del old["labels_sha256"]
    report.write_text(json.dumps(old))
    assert main(["replay", str(report), "-m", str(bundle)]) == 3
    assert "labels_sha256" in capsys.readouterr().err


def test_a_report_names_the_hash_of_a_file_and_of_a_series_in_any_order(image, tmp_path):
    import hashlib

    found = identify_input(open_image(image, read=ReadOptions()))
    content = image.read_bytes()
    assert (found.sha256, found.bytes) == (hashlib.sha256(content).hexdigest(), len(content))
    scan = np.random.default_rng(0).integers(900, 1200, (5, 32, 32)).astype(np.uint16)
    write_series(make_slices(scan), tmp_path / "ct")
    files = sorted((tmp_path / "ct").iterdir())
    together = identify_input(open_image(tmp_path / "ct", read=ReadOptions()))
    given = identify_input(open_image([str(each) for each in files[::-1]], read=ReadOptions()))
    assert together == given
    lines = sorted(hashlib.sha256(each.read_bytes()).hexdigest() for each in files)
    assert together.files == len(files)
    assert together.sha256 == hashlib.sha256(("\n".join(lines) + "\n").encode()).hexdigest()


def test_an_image_in_memory_or_beside_its_header_has_no_hash(image, tmp_path):
    assert identify_input(open_image(image.read_bytes(), read=ReadOptions())) is None
    assert identify_input(open_image(np.zeros((8, 8), np.uint8), read=ReadOptions())) is None
    header = "ObjectType = Image\nNDims = 2\nDimSize = 8 8\nElementType = MET_UCHAR\n"
    (tmp_path / "a.raw").write_bytes(bytes(64))
    (tmp_path / "a.mhd").write_text(header + "ElementDataFile = a.raw\n")
    (tmp_path / "a.mha").write_bytes((header + "ElementDataFile = LOCAL\n").encode() + bytes(64))
    (tmp_path / "b.mha").write_text(header + "ElementDataFile = a.raw\n")
    found = {
        name: identify_input(open_image(tmp_path / name, read=ReadOptions()))
        for name in ("a.mhd", "a.mha", "b.mha")
    }
    assert {name: each is not None for name, each in found.items()} == {
        "a.mhd": False, "a.mha": True, "b.mha": False
    }  # fmt: skip


def test_labels_of_another_shape_have_another_hash():
    labels = np.arange(24, dtype=np.uint8)
    assert hash_labels(labels.reshape(1, 4, 6)) != hash_labels(labels.reshape(1, 6, 4))
    turned = labels.reshape(1, 4, 6).transpose(0, 2, 1)
    assert hash_labels(turned) == hash_labels(np.ascontiguousarray(turned))
