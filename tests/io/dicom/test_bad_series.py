"""Series whose slices are missing, doubled, out of line, or of several scans."""

import contextlib

import numpy as np
import pytest

from bedside.errors import FormatError, GeometryError
from bedside.io.dicom.series import open_series
from bedside.io.source import find_sources, open_source
from dicom_makers import make_affine, make_slices, write_series
from makers import write_dicom

SHAPE = (6, 8, 9)


def _stored(seed=0):
    return np.random.default_rng(seed).integers(100, 4000, SHAPE).astype(np.uint16)


def _series(folder, edit=None, **choices):
    datasets = make_slices(_stored(), edit=edit, **choices)
    return write_series(datasets, folder / "scan", seed=None)


def _open(folder, **choices):
    return open_source(folder / "scan", **choices)


def _read(source):
    return np.stack(list(source.sequence))[:, 0]


def _one(index, **values):
    """Change attributes of one slice."""

    def edit(dataset, place):
        if place == index:
            for keyword, value in values.items():
                setattr(dataset, keyword, value)

    return edit


def _all(**values):
    def edit(dataset, place):
        for keyword, value in values.items():
            setattr(dataset, keyword, value)

    return edit


def test_a_missing_slice_is_refused_and_it_is_said_where(tmp_path):
    _series(tmp_path)[2].unlink()
    with pytest.raises(GeometryError, match=r"slices 2 and 3 \(IM0001, IM0003\) are 4 mm") as error:
        _open(tmp_path)
    assert "--gaps interpolate" in str(error.value)


@pytest.mark.parametrize(("share", "even"), [(0.5e-3, True), (2e-3, False)])
def test_spacing_may_differ_by_a_thousandth(tmp_path, share, even):
    def edit(dataset, index):
        height = 2.0 * index + (2.0 * share if index >= 3 else 0)
        dataset.ImagePositionPatient = ["0", "0", f"{height:.6f}"]
        # Its thickness would say that nothing is missing.
        del dataset.SliceThickness

    _series(tmp_path, edit)
    with contextlib.nullcontext() if even else pytest.raises(GeometryError, match="slices 3 and 4"):
        _open(tmp_path)


def test_slices_that_are_there_twice_are_taken_once(tmp_path):
    paths = _series(tmp_path)
    for path in paths[:2]:
        (tmp_path / "scan" / f"copy-{path.name}").write_bytes(path.read_bytes())
    source = _open(tmp_path)
    assert source.sequence.shape[0] == 6
    assert len(source.header.instances) == 6
    assert any("2 slices are there twice" in text for text in source.sequence.warnings)


def test_different_slices_at_one_place_are_refused(tmp_path):
    place = ["-20", "15", "7"]
    paths = _series(tmp_path, _one(3, ImagePositionPatient=place))
    with pytest.raises(GeometryError, match=r"IM0001 and IM0003 lie at one place and differ"):
        open_series(paths, path=tmp_path)


def test_all_at_one_place_or_without_one_is_no_scan(tmp_path):
    paths = _series(tmp_path, _all(ImagePositionPatient=["0", "0", "0"]))
    with pytest.raises(GeometryError, match="6 images lie at one place"):
        open_series(paths, path=tmp_path)
    assert find_sources(tmp_path / "scan").files == {}
    paths = _series(tmp_path, lambda dataset, _: delattr(dataset, "ImagePositionPatient"))
    with pytest.raises(GeometryError, match="ImagePositionPatient is missing"):
        open_series(paths, path=tmp_path)
    assert len(find_sources(tmp_path / "scan").paths) == 6


def test_fluoroscopy_at_one_place_is_a_cine(tmp_path):
    edit = _all(ImagePositionPatient=["0", "0", "0"], Modality="XA")
    paths = _series(tmp_path, edit, slope=None)
    sequence, _ = open_series(paths[::-1], path=tmp_path)
    assert sequence.geometry is None
    assert np.array_equal(np.stack(list(sequence))[:, 0], _stored())


def test_a_slice_beside_the_line_of_the_others_is_refused(tmp_path):
    affine = make_affine()
    place = [f"{x:.6g}" for x in affine[:3] @ [3, 2, 0, 1]]
    paths = _series(tmp_path, _one(3, ImagePositionPatient=place))
    with pytest.raises(GeometryError, match=r"IM0003 lies 1\.60 mm beside"):
        open_series(paths, path=tmp_path)


def test_a_localizer_is_skipped_and_a_second_size_split_off(tmp_path):
    _series(tmp_path)
    localizer = make_slices(_stored()[:1], series="series", edit=_all(
        ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"],
        ImageOrientationPatient=["0", "1", "0", "0", "0", "-1"],
        SOPInstanceUID="1.2.3.4",
    ))  # fmt: skip
    write_dicom(localizer[0], tmp_path / "scan" / "scout")
    other = make_slices(np.zeros((3, 4, 4), np.uint16))
    for index, dataset in enumerate(other):
        write_dicom(dataset, tmp_path / "scan" / f"small{index}")
    found = find_sources(tmp_path / "scan")
    assert [path.name for path in found.paths] == ["IM0000", "small0"]
    assert [len(found.files[path]) for path in found.paths] == [6, 3]
    assert "scout is a localizer" in found.skipped[0]
    with pytest.raises(FormatError, match=r"IM0000 \(6 slices\).*small0 \(3 slices\)"):
        _open(tmp_path)


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"PatientID": "T2"}, "several patients"),
        ({"FrameOfReferenceUID": "1.2.3"}, "one origin"),
    ],
)
def test_slices_of_two_patients_or_frames_of_reference_are_refused(tmp_path, tags, words):
    _series(tmp_path, _one(4, **tags))
    with pytest.raises(FormatError, match=words) as error:
        _open(tmp_path)
    assert "T2" not in str(error.value)


def test_mixed_series_given_as_one_are_refused(tmp_path):
    first = _series(tmp_path / "a")
    second = _series(tmp_path / "b", series="other")
    with pytest.raises(FormatError, match="SeriesInstanceUID"):
        open_series([*first, *second], path=tmp_path)


@pytest.mark.parametrize(
    "orientation",
    [(-1, 0, 0, 0, -1, 0), (0, 1, 0, -1, 0, 0), (0, -1, 0, 1, 0, 0), (1, 0, 0, 0, -1, 0)],
)
@pytest.mark.parametrize("position", ["HFP", "FFDR", "HFDL", ""])
def test_prone_and_decubitus_follow_the_vectors_and_no_words(tmp_path, orientation, position):
    affine = make_affine(orientation)
    edit = _all(PatientPosition=position, InstanceNumber="7")
    datasets = make_slices(_stored(), affine, edit=edit)
    write_series(datasets, tmp_path / "scan")
    source = _open(tmp_path)
    np.testing.assert_allclose(source.sequence.geometry.affine, affine, atol=1e-6)
    assert np.array_equal(_read(source), _stored().astype(int) - 1024)


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("ImageOrientationPatient", ["1", "0", "0", "1", "0", "0"]),
        ("ImageOrientationPatient", ["1", "0", "0"]),
        ("PixelSpacing", ["0", "1"]),
        ("PixelSpacing", ["1"]),
    ],
)
def test_a_place_that_is_none_is_refused(tmp_path, keyword, value):
    paths = _series(tmp_path, _all(**{keyword: value}))
    with pytest.raises(GeometryError, match=keyword):
        open_series(paths, path=tmp_path)


# --- enhanced ---------------------------------------------------------------------------
