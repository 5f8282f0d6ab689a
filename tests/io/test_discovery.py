"""What of a folder is taken for images, and what is left out and said."""

import contextlib
import os
import shutil
import socket
import tempfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from bedside.errors import FormatError
from bedside.io.discovery import find_sources
from bedside.io.own_results import MARKER, write_marker
from bedside.io.read_options import Limits, ReadOptions
from bedside.io.source import Algorithm, open_source, write_labels
from bedside.volume import LabelMap
from dicom_makers import make_slices, write_series
from makers import (
    LABELS,
    make_dicom,
    make_fan,
    make_labels,
    write_dicom,
    write_nifti,
    write_picture,
)

UNTRUSTED = Limits(memory_mb=1024, deadline_s=120)


@pytest.fixture(params=[None, UNTRUSTED], ids=["trusted", "untrusted"])
def find(request):
    """Both ways of looking through a folder; names below it, and what is said of the rest."""

    def look(folder):
        found = ReadOptions(untrusted=request.param).find(folder)
        names = [path.relative_to(folder).as_posix() for path in found.paths]
        return names, list(found.skipped)

    return look


def write_image(path, *, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_picture(make_fan(1, seed=seed)[0], path)


def write_mask(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_picture(make_labels(1)[0], path)


def test_linked_folders_and_files_are_followed_and_each_is_taken_once(tmp_path, find):
    study, store = tmp_path / "study", tmp_path / "store"
    write_image(study / "own.png")
    write_image(store / "b" / "far.png")
    (study / "linked").symlink_to(store / "b")
    (study / "again").symlink_to(study / "linked")
    (study / "same.png").symlink_to(study / "own.png")
    (store / "b" / "back").symlink_to(study)
    (study / "up").symlink_to(tmp_path)
    (study / "gone").symlink_to(tmp_path / "nothing")
    (study / "self").symlink_to(study / "self")
    names, skipped = find(study)
    assert names == ["again/far.png", "own.png"]
    said = "\n".join(skipped)
    for name in ("linked is a link", "same.png is a link", "up is a link", "back is a link"):
        assert name in said
    assert "gone is a link that leads nowhere" in said
    assert "self is a link that leads nowhere" in said
    assert len(skipped) == 6


def test_a_series_behind_a_link_is_one_case(tmp_path, find):
    write_series(make_slices(np.zeros((4, 5, 6), np.uint16)), tmp_path / "store")
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "ct").symlink_to(tmp_path / "store")
    for slice_ in sorted((tmp_path / "store").iterdir()):
        (tmp_path / "study" / f"link-{slice_.name}").symlink_to(slice_)
    names, skipped = find(tmp_path / "study")
    assert names == ["ct"]
    assert len(skipped) == 4
    found = find_sources(tmp_path / "study")
    assert open_source(found.paths[0], files=found.files[found.paths[0]]).sequence.shape[0] == 4


def test_pipes_sockets_and_devices_are_named_and_never_opened(tmp_path, find):
    # A socket's address is short.
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        write_image(folder / "a.png")
        os.mkfifo(folder / "pipe.dcm")
        with socket.socket(socket.AF_UNIX) as bound:
            bound.bind(str(folder / "s.png"))
            (folder / "null.png").symlink_to("/dev/null")
            (folder / "linked.nii").symlink_to(folder / "pipe.dcm")
            names, skipped = find(folder)
    assert names == ["a.png"]
    said = "\n".join(skipped)
    for words in ("pipe.dcm is a named pipe", "linked.nii is a named pipe", "s.png is a socket"):
        assert f"{words} and was not opened" in said
    assert "null.png is a device" in said


def test_a_folder_that_may_not_be_looked_into_is_said(tmp_path):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_image(folder / "a.png")
        (folder / "shut").mkdir()
        (folder / "shut").chmod(0)
        folder.chmod(0o755)
        with as_nobody():
            found = find_sources(folder)
        (folder / "shut").chmod(0o755)
    assert [path.name for path in found.paths] == ["a.png"]
    assert found.skipped == (f"{folder / 'shut'} cannot be looked into: Permission denied.",)


@contextlib.contextmanager
def as_nobody():
    """Root may look into everything; for once be somebody else."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_what_systems_leave_behind_is_not_worth_a_word(tmp_path, find):
    write_image(tmp_path / "a.png")
    for name in ("._a.png", ".DS_Store", "Thumbs.db", "desktop.ini"):
        (tmp_path / name).write_bytes(b"junk")
    write_image(tmp_path / "__MACOSX" / "b.png")
    write_image(tmp_path / ".hidden" / "c.png")
    assert find(tmp_path) == (["a.png"], [])


@pytest.mark.parametrize(
    "name",
    [
        "p1_gt.png", "p1_seg.png", "p1-mask.png", "label_3.png", "labels12.png", "LabelMap.png",
        "masks/p1.png", "labelsTr/p1.png", "Annotations/p1.png", "1_HC_Annotation.png",
        "GroundTruth/p1.png", "p1_Segmentation.png", "1.2.840_gt.png", "p1.seg.png",
    ],
)  # fmt: skip
def test_label_maps_are_left_out_by_name_and_content(tmp_path, name):
    write_image(tmp_path / "p1.png")
    mask = write_mask(tmp_path / name)
    found = find_sources(tmp_path)
    assert found.paths == (tmp_path / "p1.png",)
    assert found.skipped == (
        f"{mask} is a label map, by its name and its values; name it by itself to segment it.",
    )
    write_image(mask)
    assert find_sources(tmp_path).paths == tuple(sorted((tmp_path / "p1.png", mask)))


@pytest.mark.parametrize(
    ("ending", "dtype"),
    [
        (".nii", np.int16), (".nii.gz", np.float32), (".mha", np.uint8), (".nrrd", np.int16),
        (".nrrd", np.float32), (".png", np.uint8),
    ],
)  # fmt: skip
def test_label_maps_of_every_format_are_known_and_images_of_such_names_are_not_lost(
    tmp_path, find, ending, dtype
):
    noise = np.random.default_rng(0).normal(90, 20, (12, 40, 48)).clip(0, 255)
    many = np.repeat(np.repeat(np.arange(1, 61).reshape(6, 10), 8, axis=0), 5, axis=1)
    for name, array in (
        ("label_scan", noise), ("x_seg", make_labels(12, 40, 48)), ("y_seg", np.zeros((12, 9, 9))),
        ("atlas_labels", np.stack([many] * 4)),
    ):  # fmt: skip
        values = array.round().astype(dtype)
        image = SimpleITK.GetImageFromArray(values[0] if ending == ".png" else values)
        SimpleITK.WriteImage(image, str(tmp_path / f"{name}{ending}"))
    names, skipped = find(tmp_path)
    assert names == [f"label_scan{ending}"]
    assert len(skipped) == 3


def test_a_damaged_file_with_the_name_of_a_label_map_is_left_to_its_reader(tmp_path):
    path = write_nifti(make_labels(), tmp_path / "x_seg.nii.gz")
    path.write_bytes(path.read_bytes()[:-9])
    assert find_sources(tmp_path).paths == (path,)


def test_only_label_maps_is_an_error_that_says_so(tmp_path):
    write_mask(tmp_path / "a_gt.png")
    with pytest.raises(FormatError, match=r"holds no image .*a_gt\.png is a label map"):
        find_sources(tmp_path)


@pytest.mark.parametrize("format_", ["nifti", "seg-nrrd", "png", "dicom-seg", "dicom-labelmap"])
def test_our_own_masks_are_known_wherever_they_lie(tmp_path, find, format_):
    sequence = write_dicom(make_dicom(make_fan(1)), tmp_path / "cine.dcm")
    source = open_source(sequence)
    suffix = {"nifti": ".nii.gz", "seg-nrrd": ".nrrd", "png": ".png"}.get(format_, ".dcm")
    write_labels(
        LabelMap(make_labels(1)), source, tmp_path / f"copied{suffix}",
        labels_spec=LABELS, algorithm=Algorithm("a", "1", "0"), format=format_,
    )  # fmt: skip
    names, skipped = find(tmp_path)
    assert names == ["cine.dcm"]
    assert len(skipped) == 1
    assert f"copied{suffix} holds no image: it is " in skipped[0]


def test_results_are_left_out_by_their_marker_and_what_lies_beside_them_is_not(tmp_path, find):
    write_series(make_slices(np.zeros((4, 5, 6), np.uint16)), tmp_path / "ct")
    for name in ("overlay.png", "segmentation/frame_0001.png"):
        write_image(tmp_path / "ct" / name)
    (tmp_path / "ct" / "report.html").write_text("a page")
    write_marker(tmp_path / "ct", ["overlay.png", "segmentation", "report.html"])
    names, skipped = find(tmp_path)
    assert names == ["ct"]
    assert skipped == [
        f"{tmp_path / 'ct'} holds results of bedside: overlay.png, report.html, segmentation."
    ]


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{", b'{"bedside_version": "1", "files": 3}', b"\xff", b"[" * 9999]
)
def test_a_marker_that_makes_no_sense_hides_nothing(tmp_path, content):
    image = write_image(tmp_path / "overlay.png")
    (tmp_path / MARKER).write_bytes(content)
    assert find_sources(tmp_path).paths == (image,)


def test_a_marker_hides_nothing_but_results(tmp_path):
    image = write_image(tmp_path / "patient.png")
    write_marker(tmp_path, ["patient.png", "../secret.png"])
    assert find_sources(tmp_path).paths == (image,)


@pytest.mark.parametrize("limits", [None, UNTRUSTED])
def test_a_label_map_named_by_itself_is_taken_with_a_warning(tmp_path, limits):
    for path in (write_mask(tmp_path / "innocent.png"), write_mask(tmp_path / "x_gt.png")):
        sequence = ReadOptions(untrusted=limits).open(path).sequence
        assert any("as a label map does" in warning for warning in sequence.warnings)
        assert np.array_equal(sequence.decode(0)[0], make_labels(1)[0])
    for path in (write_image(tmp_path / "a.png"), write_image(tmp_path / "b_gt.png")):
        assert "label map" not in " ".join(
            ReadOptions(untrusted=limits).open(path).sequence.warnings
        )


def test_a_result_named_by_itself_is_taken_with_a_warning(tmp_path):
    source = open_source(write_image(tmp_path / "a.png"))
    mask = write_labels(
        LabelMap(make_labels(1)), source, tmp_path / "m.png",
        labels_spec=LABELS, algorithm=Algorithm("a", "1", "0"), format="png",
    )  # fmt: skip
    assert "is a result of bedside" in " ".join(ReadOptions().open(mask).sequence.warnings)


def test_a_copy_of_a_folder_of_results_gives_no_images(tmp_path):
    """Without its marker too: each file says by itself what it is."""
    write_image(tmp_path / "a.png")
    source = open_source(tmp_path / "a.png")
    from bedside.report.overlay import plan_overlay, write_contact_sheet, write_overlay
    from bedside.volume import Box

    labels = LabelMap(make_labels(1))
    plan = plan_overlay(source.sequence, labels, LABELS)
    (tmp_path / "out").mkdir()
    shutil.move(write_overlay(plan, tmp_path / "out"), tmp_path / "b.png")
    shutil.move(write_contact_sheet(plan, tmp_path / "out", region=Box(0, 0, 48, 64)),
                tmp_path / "c.png")  # fmt: skip
    found = find_sources(tmp_path)
    assert found.paths == (tmp_path / "a.png",)
    assert len(found.skipped) == 2


def test_results_of_before_there_were_markers_are_known_by_their_report(tmp_path):
    for name in ("image.png", "overlay.png"):
        write_image(tmp_path / name)
    (tmp_path / "report.json").write_text('{"bedside_version": "0", "files": ["overlay.png"]}')
    assert find_sources(tmp_path).paths == (tmp_path / "image.png",)
