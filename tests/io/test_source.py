"""The door: files told by their bytes, folders searched, formats chosen, nothing half-written."""

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from pydicom.data import get_testdata_file

from bedside.errors import FormatError, InputError, OutputError, UsageError
from bedside.io.source import (
    Algorithm,
    default_format,
    find_sources,
    open_source,
    write_labels,
)
from bedside.volume import LabelMap
from makers import (
    LABELS,
    make_dicom,
    make_fan,
    make_labels,
    write_dicom,
    write_nifti,
    write_picture,
)

pytest_plugins = ["memory_fixtures"]
pytestmark = pytest.mark.usefixtures("in_little_memory")

ALGORITHM = Algorithm("a", "1", "0")


def _write(labels, source, target, format):  # noqa: A002
    return write_labels(
        LabelMap(labels),
        source,
        target,
        labels_spec=LABELS,
        algorithm=ALGORITHM,
        format=format,
    )


def _make_folder(folder):
    (folder / "deep").mkdir(parents=True)
    write_dicom(make_dicom(make_fan()), folder / "cine")
    write_nifti(np.zeros((4, 4), np.uint8), folder / "deep" / "slice.nii.gz")
    write_picture(make_fan(1)[0], folder / "still.png")
    return folder


@pytest.mark.parametrize(
    ("name", "content"),
    [("notes.dcm", b"Dear colleague"), ("empty.dcm", b""), ("x.nii.gz", b"\x1f\x8b junk")],
)
def test_what_is_no_image_is_refused_by_name(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    for refuse in (open_source, find_sources):
        with pytest.raises(FormatError, match=rf"{name}.*expected DICOM"):
            refuse(tmp_path / name)


def test_a_missing_file_and_a_folder_without_a_series_are_refused(tmp_path):
    with pytest.raises(FormatError, match=r"gone\.dcm"):
        open_source(tmp_path / "gone.dcm")
    with pytest.raises(FormatError, match="holds no image"):
        open_source(tmp_path)
    write_picture(make_fan(1)[0], tmp_path / "still.png")
    with pytest.raises(FormatError, match=r"not of one DICOM series: .*still\.png"):
        open_source(tmp_path)


def test_a_folder_gives_its_images_sorted_and_names_the_rest(tmp_path):
    folder = _make_folder(tmp_path / "study")
    (folder / "README.txt").write_text("words")
    (folder / ".hidden.png").write_bytes((folder / "still.png").read_bytes())
    index = Path(get_testdata_file("DICOMDIR"))
    shutil.copy(index, folder / "DICOMDIR")
    found = find_sources(folder)
    assert found.paths == (folder / "cine", folder / "deep" / "slice.nii.gz", folder / "still.png")
    assert len(found.skipped) == 2
    assert "DICOMDIR" in found.skipped[0]
    assert "README.txt" in found.skipped[1]


def test_a_segmentation_beside_its_cine_is_not_taken_for_an_image(tmp_path):
    source = open_source(write_dicom(make_dicom(make_fan()), tmp_path / "cine.dcm"))
    _write(make_labels(), source, tmp_path / "segmentation.dcm", "dicom-seg")
    assert find_sources(tmp_path).paths == (tmp_path / "cine.dcm",)


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(FormatError, match="nothing else"):
        find_sources(tmp_path)
    (tmp_path / "README.txt").write_text("words")
    with pytest.raises(FormatError, match=r"1 other things, such as: .*README.txt is no image"):
        find_sources(tmp_path)


@pytest.mark.parametrize("suffix", ["DICOMDIR", "reportsi.dcm"])
def test_an_index_or_a_report_is_refused_as_no_image(suffix):
    with pytest.raises(FormatError, match="Name an image"):
        open_source(Path(get_testdata_file(suffix)))


def test_each_kind_has_its_own_format(tmp_path):
    folder = _make_folder(tmp_path / "study")
    formats = [default_format(open_source(path)) for path in find_sources(folder).paths]
    assert formats == ["dicom-seg", "nifti", "png"]


def test_formats_that_do_not_fit_are_refused_and_nothing_is_written(tmp_path):
    source = open_source(write_picture(make_fan(1)[0], tmp_path / "still.png"))
    for format_, words in (("dicom-seg", "not DICOM"), ("tiff", "choose one of")):
        with pytest.raises(UsageError, match=words):
            _write(make_labels(1), source, tmp_path / "out" / "labels", format_)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("format_", ["dicom-seg", "nifti", "png"])
@pytest.mark.parametrize("frames", [1, 3])
def test_an_output_folder_that_cannot_be_written_is_refused_and_left_as_it_was(
    tmp_path, format_, frames
):
    source = open_source(write_dicom(make_dicom(make_fan(frames)), tmp_path / "cine.dcm"))
    (tmp_path / "out").write_text("a file where a folder should be")
    with pytest.raises(OutputError, match="out"):
        _write(make_labels(frames), source, tmp_path / "out" / "labels.x", format_)
    assert sorted(os.listdir(tmp_path)) == ["cine.dcm", "out"]


def test_opening_the_door_loads_no_format():
    code = (
        "import sys, bedside.io.source; "
        "print([m for m in ('highdicom', 'nibabel', 'PIL', 'pydicom', 'cv2') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("kind", ["dicom", "nrrd", "mha"])
def test_an_image_loads_the_libraries_of_its_own_format_only(tmp_path, kind):
    path = tmp_path / f"x.{kind}"
    if kind == "dicom":
        write_dicom(make_dicom(make_fan()), path)
    else:
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(make_fan()), str(path))
    code = (
        "import sys; from bedside.io.read_options import ReadOptions; "
        f"ReadOptions().open({str(path)!r}).sequence.decode(0); "
        "print([m for m in ('highdicom', 'nibabel', 'scipy', 'bedside.spec') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("seed", range(8))
def test_damaged_bytes_are_read_or_refused_with_our_error(tmp_path, seed):
    """A header with bytes overwritten at random, of every kind, through the whole door."""
    rng = np.random.default_rng(seed)
    folder = _make_folder(tmp_path / "study")
    for path in find_sources(folder).paths:
        whole = path.read_bytes()
        for _ in range(15):
            damaged = np.frombuffer(whole, np.uint8).copy()
            places = rng.integers(0, min(len(damaged), 1200), rng.integers(1, 5))
            damaged[places] = rng.choice([0, 255, 32, 65])
            path.write_bytes(damaged.tobytes())
            with contextlib.suppress(InputError):
                source = open_source(path)
                assert source.sequence.decode(0).shape == source.sequence.shape[1:]
                labels = np.zeros((len(source.sequence), *source.sequence.shape[2:]), np.uint8)
                _write(labels, source, tmp_path / "out", default_format(source))
