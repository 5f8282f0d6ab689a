"""The three lines that most users write: load, segment, save."""

import csv
import io
import json
import re
import subprocess
import sys
import threading

import nibabel
import numpy as np
import pydicom
import pytest

import bedside
import makers
from bedside.cli.demo import find_cine
from bedside.cli.main import main
from bedside.errors import (
    BundleError,
    ClosedError,
    FormatError,
    GeometryError,
    MemoryLimitError,
    ModalityError,
    UsageError,
)
from bedside.io.source import open_source
from bedside.options import OutputOptions
from bedside.volume import ImageSequence

CLOSED_FILE = io.BytesIO(b"")
CLOSED_FILE.close()
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def cardiac():
    with bedside.load("camus-4ch", precision="f32", threads=1) as model:
        yield model


@pytest.fixture(scope="module")
def brain():
    with bedside.load("hippocampus", precision="f32", threads=1) as model:
        yield model


@pytest.fixture(scope="module")
def heads():
    with bedside.load("hc18-head", precision="f32", threads=1) as model:
        yield model


@pytest.fixture(scope="module")
def head():
    """A head with a bright skull, (200, 260), as an ellipse of 60 by 80 pixels."""
    rows, columns = np.mgrid[:200, :260]
    radius = np.hypot((rows - 100) / 60, (columns - 130) / 80)
    image = np.where(np.abs(radius - 1) < 0.05, 230, np.where(radius < 1, 60, 25))
    return (image + RNG.integers(0, 20, image.shape)).clip(0, 255).astype(np.uint8)


def test_importing_bedside_loads_no_arrays():
    code = "import bedside, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    heavy = {"numpy", "cv2", "openvino", "pydicom", "typing"}
    assert not set(done.stdout.split()) & heavy


def test_what_the_package_has_is_listed_before_it_is_loaded():
    assert set(bedside.__all__) <= set(dir(bedside))
    with pytest.raises(AttributeError, match="'nothing'"):
        bedside.nothing  # noqa: B018


def test_an_array_has_labels_of_its_own_shape(cardiac):
    fan = makers.make_fan(3, 96, 128)
    assert cardiac.segment(fan[0]).labels.shape == (96, 128)
    assert cardiac.segment(fan).labels.shape == (3, 96, 128)
    colour = np.stack([fan] * 3, axis=-1)
    assert cardiac.segment(colour[0]).labels.shape == (96, 128)
    found = cardiac.segment(colour)
    assert (found.labels.shape, found.labels.dtype) == ((3, 96, 128), np.uint8)
    assert np.array_equal(found.labels, cardiac.segment(fan).labels)


def test_a_scan_in_memory_is_segmented_by_a_network_of_three_axes(brain):
    scan = RNG.integers(0, 200, (34, 50, 36)).astype(np.int16)
    affine = np.diag([1.0, 1.0, 1.0, 1.0])[:, [2, 1, 0, 3]]
    found = brain.segment(scan, affine=affine, space="LPS", modality="MR")
    assert found.labels.shape == scan.shape
    assert found.spacing_mm == (1.0, 1.0, 1.0)
    spaced = brain.segment(scan, spacing_mm=(1.0, 1.0, 1.0))
    assert spaced.spacing_mm == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("array", "settings", "error", "text"),
    [
        (np.zeros(5), {}, GeometryError, r"shape \(5,\); expected \(H, W\)"),
        (np.zeros((2, 1, 1, 8, 8)), {}, GeometryError, "expected"),
        (np.zeros((0, 8, 8)), {}, GeometryError, "no size 0"),
        (np.zeros((8, 8), object), {}, FormatError, "object; expected an array of real numbers"),
        (np.zeros((8, 8), complex), {}, FormatError, "complex128"),
        (np.full((48, 64), np.nan), {}, FormatError, "NaN"),
        (np.ma.masked_array(np.zeros((48, 64)), mask=np.eye(48, 64)), {}, FormatError, "filled"),
        (np.zeros((48, 64, 1), np.uint8), {}, GeometryError, r"array\[..., 0\]"),
        ([np.zeros((48, 64)), np.zeros((48, 64))], {}, UsageError, "one numpy array"),
        (np.zeros((2, 2, 48, 64), np.uint8), {}, FormatError, "2 channels"),
        (np.zeros((48, 64, 4), np.uint8), {}, GeometryError, "transparency"),
        (np.zeros((48, 64), np.uint8), {"spacing_mm": 0.2}, GeometryError, "spacing_mm is 0.2"),
        (np.zeros((48, 64), np.uint8), {"spacing_mm": (0, 1)}, GeometryError, r"\(0, 1\)"),
        (np.zeros((48, 64), np.uint8), {"spacing_mm": (1, np.nan)}, GeometryError, "above 0"),
        (np.zeros((48, 64), np.uint8), {"affine": np.eye(4)}, GeometryError, "which space"),
        (np.zeros((48, 64), np.uint8), {"affine": np.eye(3), "space": "LPS"}, GeometryError,
         "4 x 4"),
        (np.zeros((48, 64), np.uint8), {"affine": np.zeros((4, 4)), "space": "RAS"}, GeometryError,
         "singular"),
        (np.zeros((48, 64), np.uint8), {"affine": "here", "space": "RAS"}, GeometryError, "here"),
        (np.zeros((48, 64), np.uint8), {"affine": np.eye(4) * 1j, "space": "RAS"}, GeometryError,
         "1.*j"),
        (np.zeros((48, 64), np.uint8), {"affine": np.eye(4) * 2, "space": "RAS"}, GeometryError,
         "last row"),
        (np.zeros((48, 64), np.uint8), {"space": "RAS"}, GeometryError, "no affine is given"),
        (np.zeros((48, 64), np.uint8), {"affine": np.eye(4), "space": "RAS", "spacing_mm": (1, 1)},
         GeometryError, "leave spacing_mm out"),
        (np.zeros((48, 64), np.uint8), {"modality": "CT"}, ModalityError, "CT.*is for US"),
        ([[0, 1], [1, 0]], {}, UsageError, "given as list"),
        (None, {}, UsageError, "given as NoneType"),
        (b"", {}, FormatError, "the bytes given"),
        (CLOSED_FILE, {}, UsageError, "closed file"),
        ("no/such.dcm", {}, FormatError, "no/such.dcm"),
        ("", {}, UsageError, "the path given is ''"),
        ("a\0b", {}, UsageError, "the path given is"),
    ],
)  # fmt: skip
def test_what_cannot_be_segmented_is_refused_by_its_own_error(
    cardiac, array, settings, error, text
):
    with pytest.raises(error, match=text):
        cardiac.segment(array, **settings)


def test_a_matrix_is_an_image_of_two_axes(cardiac):
    fan = makers.make_fan(1, 96, 128)[0]
    found = cardiac.segment(fan.view(np.matrix)).labels
    assert np.array_equal(found, cardiac.segment(fan).labels)


def test_an_image_of_one_value_is_warned_of(cardiac):
    warning = "the images looked at have one value in all pixels: their labels mean nothing."
    image = np.full((48, 64), 7, np.uint8)
    assert warning in cardiac.segment(image).warnings
    image[3, 4] = 9
    assert warning not in cardiac.segment(image).warnings


@pytest.mark.parametrize("frame", [-1, 3])
def test_an_overlay_of_a_frame_that_is_not_there_is_refused(cardiac, frame):
    result = cardiac.segment(makers.make_fan(3, 96, 128))
    with pytest.raises(UsageError, match=f"frame is {frame}; the image has 3"):
        result.overlay(frame)


@pytest.mark.parametrize("threads", [0, 1.5, "2", True])
def test_threads_are_a_whole_number(threads):
    with pytest.raises(UsageError, match=f"threads is {threads!r}; expected a whole number"):
        bedside.load("camus-4ch", threads=threads)
    with bedside.load("camus-4ch", precision="f32", threads=np.int64(1)) as model:
        assert model.segmenter.session.threads == 1


@pytest.mark.parametrize("dtype", ["int16", "uint16", "int64", "float16", "float64", ">u2", ">f4"])
def test_the_dtype_of_an_array_makes_no_difference(cardiac, dtype):
    fan = makers.make_fan(1, 96, 128)[0]
    labels = cardiac.segment(fan).labels
    assert np.array_equal(cardiac.segment(fan.astype(dtype)).labels, labels)
    assert np.array_equal(cardiac.segment(np.asfortranarray(fan)).labels, labels)


def test_a_scan_that_would_not_fit_into_memory_is_refused(brain):
    scan = np.ones((20, 30, 24), np.uint8)
    with pytest.raises(MemoryLimitError, match="not enough memory"):
        brain.segment(scan, spacing_mm=np.array([1e9, 1, 1]))


def test_a_file_has_its_own_place_and_kind(cardiac):
    with pytest.raises(UsageError, match="affine goes with an array"):
        cardiac.segment(find_cine(), affine=np.eye(4), space="LPS")


def test_another_kind_of_image_goes_through_by_force(cardiac):
    fan = makers.make_fan(1, 96, 128)[0]
    forced = cardiac.segment(fan, modality="CT", force=True)
    assert np.array_equal(forced.labels, cardiac.segment(fan).labels)


def test_an_image_given_is_not_changed(cardiac):
    fan = makers.make_fan(2, 96, 128)
    before = fan.copy()
    fan.flags.writeable = False
    cardiac.segment(fan, spacing_mm=(0.3, 0.3))
    assert np.array_equal(fan, before)


def test_open_sequences_and_paths_give_equal_labels(cardiac, tmp_path):
    frame = makers.make_fan(1, 96, 128)[0]
    makers.write_picture(frame, tmp_path / "fan.png")
    labels = cardiac.segment(frame).labels
    for image in (
        tmp_path / "fan.png",
        str(tmp_path / "fan.png"),
        ImageSequence.from_array(frame),
        open_source(tmp_path / "fan.png"),
    ):
        found = cardiac.segment(image).labels
        assert found.shape == (1, 96, 128)
        assert np.array_equal(found[0], labels)


def test_bytes_files_and_datasets_give_the_labels_of_the_path(cardiac):
    path = find_cine()
    labels = cardiac.segment(path).labels
    assert np.array_equal(cardiac.segment(path.read_bytes()).labels, labels)
    with path.open("rb") as file:
        assert np.array_equal(cardiac.segment(file).labels, labels)
    assert np.array_equal(cardiac.segment(pydicom.dcmread(path)).labels, labels)


def test_a_dataset_without_pixels_is_refused(cardiac):
    dataset = pydicom.dcmread(find_cine())
    del dataset.PixelData
    with pytest.raises(FormatError, match="PixelData"):
        cardiac.segment(dataset)


def check_probabilities(probabilities, labels, classes):
    assert (probabilities.dtype, probabilities.shape) == (np.float32, (classes, *labels.shape))
    assert np.allclose(probabilities.sum(axis=0), 1, atol=1e-5)
    # Repairs come after; they change little.
    assert (probabilities.argmax(axis=0) == labels).mean() > 0.98


def test_probabilities_of_frames_sum_to_one_and_agree_with_labels(cardiac):
    fan = makers.make_fan(2, 96, 128)
    kept = cardiac.segment(fan, with_probabilities=True)
    check_probabilities(kept.probabilities(), kept.labels, 4)
    assert np.array_equal(cardiac.segment(fan).probabilities(), kept.probabilities())
    plane = cardiac.segment(fan[0])
    check_probabilities(plane.probabilities(), plane.labels, 4)


def test_probabilities_of_a_scan_sum_to_one_and_agree_with_labels(brain):
    scan = RNG.integers(0, 200, (34, 50, 36)).astype(np.int16)
    kept = brain.segment(scan, spacing_mm=(1, 1, 1), with_probabilities=True)
    check_probabilities(kept.probabilities(), kept.labels, 3)
    again = brain.segment(scan, spacing_mm=(1, 1, 1)).probabilities()
    assert np.array_equal(again, kept.probabilities())


def test_probabilities_are_written_beside_the_mask(cardiac, brain, tmp_path):
    options = OutputOptions(with_probabilities=True)
    result = cardiac.segment(find_cine())
    files = result.save(tmp_path / "film", options).files
    assert {"probabilities.npz", "unsure.png"} <= set(files)
    assert "unsure.png" not in result.save(tmp_path / "without").files
    with np.load(tmp_path / "film" / "probabilities.npz") as archive:
        assert np.array_equal(archive["probabilities"], result.probabilities())
        names = ("background", "LV cavity", "LV myocardium", "Left atrium")
        assert tuple(archive["names"].tolist()) == result.names == names
    scan = RNG.integers(0, 200, (34, 50, 36)).astype(np.int16)
    result = brain.segment(scan, affine=np.diag([2.0, 1.0, 1.0, 1.0]), space="RAS")
    result.save(tmp_path / "scan", options)
    image, mask = (
        nibabel.load(tmp_path / "scan" / f"{name}.nii.gz")
        for name in ("probabilities", "segmentation")
    )
    assert image.shape == (*mask.shape, 3)
    assert np.array_equal(image.affine, mask.affine)
    assert np.array_equal(np.asarray(image.dataobj).T, result.probabilities())


def test_a_seg_in_memory_is_that_of_the_file(cardiac, tmp_path):
    result = cardiac.segment(find_cine())
    seg = result.to_dicom_seg(moment="source")
    result.save(tmp_path, OutputOptions(moment="source"))
    written = pydicom.dcmread(tmp_path / "segmentation.dcm")
    assert seg == written
    assert result.to_bytes(moment="source") == (tmp_path / "segmentation.dcm").read_bytes()
    with pytest.raises(UsageError, match="not DICOM"):
        cardiac.segment(makers.make_fan(1)[0]).to_dicom_seg()
    with pytest.raises(UsageError, match="moment is 'yesterday'"):
        result.to_dicom_seg(moment="yesterday")


def test_many_threads_use_one_model(cardiac):
    frames = makers.make_fan(6, 96, 128)
    alone = [cardiac.segment(frame).labels for frame in frames]
    found = {}

    def work(index):
        found[index] = cardiac.segment(frames[index % 6]).labels

    threads = [threading.Thread(target=work, args=(index,)) for index in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(found[index], alone[index % 6]) for index in range(12))


def test_a_closed_model_says_so():
    with bedside.load("camus-4ch", precision="f32", threads=1) as model:
        assert "camus-4ch 1.1: LV cavity" in repr(model)
    with pytest.raises(ClosedError, match="closed"):
        model.segment(makers.make_fan(1)[0])


def test_a_bundle_that_is_not_there_is_refused():
    with pytest.raises(BundleError, match="no bundle"):
        bedside.load("camus-5ch")
    with pytest.raises(UsageError, match="trusted"):
        bedside.load("camus-4ch", require_signed=True)
    with pytest.raises(UsageError, match="by its name or path, not by None"):
        bedside.load(None)


def test_measurements_are_in_mm_where_the_scale_is_given(heads, head):
    structure = heads.segment(head, spacing_mm=(0.5, 0.5)).measurements["Fetal head"]
    assert structure.diameter_mm[0] == pytest.approx(80, abs=6)
    measured = {name: values[0] for name, values in structure.measurements.items()}
    # An ellipse with half axes of 40 and 30 mm.
    assert measured["head_circumference_mm"] == pytest.approx(221, abs=12)
    assert measured["head_long_axis_mm"] == pytest.approx(80, abs=6)
    assert measured["head_short_axis_mm"] == pytest.approx(60, abs=6)
    without = heads.segment(head).measurements["Fetal head"]
    assert (without.diameter_mm, dict(without.measurements)) == (None, {})


def test_the_command_reports_what_a_bundle_measures(head, tmp_path, capsys):
    makers.write_picture(head, tmp_path / "head.png")
    command = ["segment", str(tmp_path / "head.png"), "-m", "hc18-head", "-o", str(tmp_path)]
    options = ["--pixel-spacing", "0.5,0.5", "--precision", "f32", "--csv", str(tmp_path / "a.csv")]
    assert main([*command, *options]) == 0
    (said,) = re.findall(r"head circumference ([\d.]+) mm", capsys.readouterr().out)
    (structure,) = json.loads((tmp_path / "report.json").read_text())["structures"]
    (measured,) = structure["measurements"]["head_circumference_mm"]
    assert float(said) == pytest.approx(measured, abs=0.05)
    with (tmp_path / "a.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert float(row["head_circumference_mm"]) == measured
    assert f"<td>{said} mm</td>" in (tmp_path / "report.html").read_text()


def test_a_result_is_written_as_the_command_writes_it(cardiac, tmp_path):
    result = cardiac.segment(find_cine())
    saved = result.save(tmp_path / "out", OutputOptions(moment="source"))
    assert set(saved.files) == {
        "segmentation.dcm", "overlay.gif", "contact_sheet.png", "report.json", "report.html",
    }  # fmt: skip
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["bundle"]["name"] == "camus-4ch"
    assert tuple(report["warnings"]) == result.warnings
    assert "30 x 240 x 320 labels" in repr(result)


def test_an_array_is_saved_as_nifti_with_its_place(brain, tmp_path):
    scan = RNG.integers(0, 200, (34, 50, 36)).astype(np.int16)
    affine = np.array([[0, 0, -1.5, 30], [0, 1, 0, -20], [2.0, 0, 0, 7], [0, 0, 0, 1]])
    result = brain.segment(scan, affine=affine, space="LPS")
    result.save(tmp_path)
    written = open_source(tmp_path / "segmentation.nii.gz").sequence
    assert np.allclose(written.geometry.affine, affine)
    assert np.array_equal(np.stack([frame[0] for frame in written]), result.labels)


def test_an_overlay_is_an_rgb_picture(cardiac):
    picture = cardiac.segment(makers.make_fan(1, 96, 128)[0]).overlay()
    assert (picture.dtype, picture.shape) == (np.uint8, (480, 640, 3))


def test_one_call_reads_segments_and_writes(cardiac, tmp_path):
    makers.write_picture(makers.make_fan(1, 96, 128)[0], tmp_path / "fan.png")
    saved = bedside.segment_file(cardiac, tmp_path / "fan.png", tmp_path / "out")
    assert saved.folder == tmp_path / "out"
    assert "segmentation.png" in saved.files
    with pytest.raises(UsageError, match="cannot be a DICOM SEG"):
        bedside.segment_file(
            cardiac, tmp_path / "fan.png", tmp_path / "seg", OutputOptions("dicom-seg")
        )
    assert not (tmp_path / "seg").exists()
