"""Images given as bytes, open files and Datasets: as from a path, and nothing else is read."""

import gzip
import io
from copy import deepcopy

import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.pixels import set_pixel_data
from pydicom.uid import RLELossless

from bedside.errors import FormatError, GeometryError, UsageError
from bedside.io.read_options import Limits, ReadOptions
from bedside.io.source import SUFFIXES, Algorithm, encode_labels, open_source, write_labels
from bedside.volume import LabelMap
from dicom_makers import make_slices
from makers import (
    LABELS,
    compress_jpeg,
    make_dicom,
    make_fan,
    make_labels,
    write_dicom,
    write_nifti,
    write_picture,
)

ALGORITHM = Algorithm("a", "1", "0", "source")
WHO = {"labels_spec": LABELS, "algorithm": ALGORITHM}


def _frames(source):
    return np.stack(list(source.sequence))


def _make_file(name, folder):
    if name == "dicom":
        return write_dicom(make_dicom(make_fan()), folder / "x.dcm")
    if name == "nifti":
        return write_nifti(make_fan().T, folder / "x.nii.gz", spacing_mm=(0.5, 0.8, 2))
    return write_picture(make_fan(1)[0], folder / "x.png")


@pytest.mark.parametrize("name", ["dicom", "nifti", "picture"])
def test_bytes_and_open_files_are_what_their_file_is(tmp_path, name):
    path = _make_file(name, tmp_path)
    whole = open_source(path)
    content = path.read_bytes()
    with path.open("rb") as file:
        given = [open_source(each) for each in (str(path), content, memoryview(content), file)]
    for source in given:
        assert source.kind == whole.kind
        assert np.array_equal(_frames(source), _frames(whole))
        assert source.sequence.spacing_mm == whole.sequence.spacing_mm
        labels = LabelMap(np.zeros((len(source.sequence), *source.sequence.shape[2:]), np.uint8))
        assert encode_labels(labels, source, **WHO) == encode_labels(labels, whole, **WHO)
    assert [str(each.path) for each in given[:3]] == [str(path), *["the bytes given"] * 2]


@pytest.mark.parametrize("file_meta", [True, False])
def test_a_dataset_is_what_its_file_is_and_stays_whole(tmp_path, file_meta):
    dataset = make_dicom(make_fan())
    whole = open_source(write_dicom(dataset, tmp_path / "x.dcm"))
    if not file_meta:
        del dataset.file_meta
    before = deepcopy(dataset)
    source = open_source(dataset)
    assert np.array_equal(_frames(source), _frames(whole))
    assert source.sequence.warnings == whole.sequence.warnings
    assert "PixelData" not in source.header.first
    assert dataset == before
    assert hasattr(dataset, "file_meta") == file_meta
    labels = LabelMap(make_labels())
    assert encode_labels(labels, source, **WHO) == encode_labels(labels, whole, **WHO)


def test_a_dataset_that_was_read_from_a_file_is_taken_too(tmp_path):
    path = write_dicom(compress_jpeg(make_dicom(make_fan())), tmp_path / "x.dcm")
    assert np.array_equal(_frames(open_source(pydicom.dcmread(path))), _frames(open_source(path)))


@pytest.mark.parametrize("as_bytes", [False, True])
def test_a_list_is_the_slices_of_one_series_in_any_order(as_bytes):
    array = np.arange(5 * 6 * 7, dtype=np.uint16).reshape(5, 6, 7)
    slices = make_slices(array)
    given = [slices[place] for place in (3, 0, 4, 2, 1)]
    if as_bytes:
        files = [io.BytesIO() for _ in given]
        for each, file in zip(given, files, strict=True):
            each.save_as(file, enforce_file_format=True)
        given = [file.getvalue() for file in files]
    source = open_source(given)
    assert source.sequence.geometry is not None
    assert np.array_equal(_frames(source)[:, 0], array.astype(int) - 1024)
    with pytest.raises(GeometryError, match="apart"):
        open_source([*given[:3], *given[4:]])
    assert open_source(given[:1]).sequence.shape == (1, 1, 6, 7)


def test_errors_name_the_bytes_or_the_instance(tmp_path):
    dataset = make_dicom(make_fan())
    path = write_dicom(dataset, tmp_path / "x.dcm")
    with pytest.raises(FormatError, match=r"^the bytes given is no image"):
        open_source(b"Dear colleague")
    with pytest.raises(FormatError, match=r"^the bytes given.*truncated"):
        open_source(path.read_bytes()[:-50])
    with pytest.raises(FormatError, match=r"x\.dcm.*truncated"):
        open_source(io.BufferedReader(_Named(path.read_bytes()[:-50])))
    dataset.PixelData = dataset.PixelData[:-50]
    with pytest.raises(FormatError, match=rf"^Dataset {dataset.SOPInstanceUID}: the pixel data"):
        open_source(dataset)
    del dataset.PixelData
    with pytest.raises(FormatError, match=rf"^Dataset {dataset.SOPInstanceUID} lacks PixelData"):
        open_source(dataset)


class _Named(io.BytesIO):
    name = "x.dcm"


def test_what_is_compressed_and_does_not_say_how_is_refused():
    dataset = make_dicom(make_fan())
    set_pixel_data(dataset, make_fan()[0], "MONOCHROME2", 8)
    dataset.compress(RLELossless, generate_instance_uid=False)
    del dataset.file_meta
    with pytest.raises(FormatError, match="transfer syntax"):
        open_source(dataset)


@pytest.mark.parametrize("given", [3, None, [], [3], io.StringIO("words"), np.zeros((4, 4))])
def test_what_no_image_can_be_is_refused_by_its_type(given):
    with pytest.raises(UsageError, match="given"):
        open_source(given)


def test_bytes_that_name_a_file_do_not_open_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.raw").write_bytes(bytes(24))
    header = (
        "ObjectType = Image\nNDims = 3\nDimSize = 4 3 2\nElementType = MET_UCHAR\n"
        "ElementSpacing = 1 1 2\nElementDataFile = x.raw\n"
    )
    (tmp_path / "x.mhd").write_text(header)
    assert open_source(tmp_path / "x.mhd").sequence.shape == (2, 1, 3, 4)
    with pytest.raises(FormatError, match=r"the bytes given: its voxels, x\.raw, are missing"):
        open_source(header.encode())
    with (tmp_path / "x.mhd").open("rb") as file, pytest.raises(FormatError, match="missing"):
        open_source(file)


def test_bytes_that_are_not_trusted_are_decoded_in_a_process_of_their_own(tmp_path):
    content = _make_file("nifti", tmp_path).read_bytes()
    options = ReadOptions(untrusted=Limits(1024, 120))
    source = options.open(content)
    assert np.array_equal(_frames(source), _frames(open_source(content)))
    assert str(source.path) == "the bytes given"
    with pytest.raises(FormatError, match=r"^the bytes given is no image"):
        options.open(b"Dear colleague")
    with pytest.raises(UsageError, match="--untrusted"):
        options.open(make_dicom(make_fan()))


def test_slices_that_are_not_trusted_keep_their_names():
    files = [io.BytesIO() for _ in range(5)]
    array = np.arange(5 * 6 * 7, dtype=np.uint16).reshape(5, 6, 7)
    for dataset, file in zip(make_slices(array), files, strict=True):
        dataset.save_as(file, enforce_file_format=True)
    given = [file.getvalue() for file in files]
    options = ReadOptions(untrusted=Limits(1024, 120))
    assert options.open(given).sequence.shape == (5, 1, 6, 7)
    with pytest.raises(GeometryError, match=r"the bytes given \(2 of 4\)"):
        options.open([*given[:2], *given[3:]])
    warnings = options.open([*given[:4], given[4][:-20]]).sequence.warnings
    assert any("the bytes given (5 of 5) ends in the middle" in text for text in warnings)


@pytest.mark.parametrize("format_", ["dicom-seg", "dicom-labelmap", "nifti", "seg-nrrd"])
def test_labels_in_memory_are_the_bytes_of_the_file(tmp_path, format_):
    source = open_source(make_dicom(make_fan()))
    labels = LabelMap(make_labels())
    path = write_labels(labels, source, tmp_path / f"x{SUFFIXES[format_]}", **WHO, format=format_)
    assert encode_labels(labels, source, **WHO, format=format_) == path.read_bytes()


def test_labels_as_nifti_bytes_are_read_by_nibabel():
    labels = make_labels()
    content = encode_labels(LabelMap(labels), open_source(make_dicom(make_fan())), **WHO,
                            format="nifti")  # fmt: skip
    image = nibabel.Nifti1Image.from_bytes(gzip.decompress(content))
    assert np.array_equal(np.asarray(image.dataobj).T, labels)


def test_a_png_in_memory_holds_one_frame(tmp_path):
    path = _make_file("picture", tmp_path)
    content = encode_labels(LabelMap(make_labels(1)), open_source(path), **WHO)
    assert np.array_equal(np.array(Image.open(io.BytesIO(content))), make_labels(1)[0])
    with pytest.raises(UsageError, match="one frame"):
        encode_labels(LabelMap(make_labels()), open_source(path), **WHO)
