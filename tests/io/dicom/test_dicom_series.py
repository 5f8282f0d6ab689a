"""DICOM series: sorted by place, never by number; rescaled slice by slice; decoded lazily."""

import time

import numpy as np
import pydicom
import pytest
from pydicom.pixels import compress
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from bedside.errors import FormatError
from bedside.io.dicom.options import DicomOptions
from bedside.io.source import find_sources, open_source
from dicom_makers import make_affine, make_enhanced, make_slices, write_series
from makers import make_dicom, make_fan, write_dicom, write_picture
from tolerances import HEADERS_SECONDS

pytest_plugins = ["memory_fixtures"]
pytestmark = pytest.mark.usefixtures("in_little_memory")

SHAPE = (7, 10, 12)


def make_stored(shape=SHAPE, *, seed=0):
    """Noise of 12 bits."""
    return np.random.default_rng(seed).integers(0, 4096, shape).astype(np.uint16)


def read(source):
    return np.stack(list(source.sequence))[:, 0]


def test_slices_are_sorted_by_place_and_rescaled_to_whole_hu(tmp_path):
    stored, affine = make_stored(), make_affine(lean=(0, 0))
    datasets = make_slices(stored, affine)
    for dataset, number in zip(datasets, [9, 3, 3, 1, 7, 5, 2], strict=True):
        dataset.InstanceNumber = number
    write_series(datasets, tmp_path / "series")
    source = open_source(tmp_path / "series")
    values = read(source)
    assert source.sequence.shape == (7, 1, 10, 12)
    assert values.dtype == np.int16 or values.dtype == np.int32
    assert np.array_equal(values, stored.astype(int) - 1024)
    assert (source.kind, source.sequence.modality) == ("dicom", "CT")
    assert source.sequence.spacing_mm == pytest.approx((0.8, 0.7))
    assert source.sequence.slice_spacing_mm == pytest.approx(2.0)
    np.testing.assert_allclose(source.sequence.geometry.affine, affine, atol=1e-6)
    uids = [dataset.SOPInstanceUID for dataset in datasets]
    header = source.header
    assert [header.instances[index].SOPInstanceUID for index, _ in header.frames] == uids
    assert source.sequence.warnings == ()


def test_a_descending_series_comes_up_from_below(tmp_path):
    stored, affine = make_stored(), make_affine()
    write_series(make_slices(stored, affine)[::-1], tmp_path / "series", seed=None)
    np.testing.assert_array_equal(read(open_source(tmp_path / "series")), stored - 1024.0)


def test_each_slice_has_its_own_slope_and_fractions_are_f32(tmp_path):
    stored = make_stored()
    slopes = np.linspace(0.5, 2, 7)

    def edit(dataset, index):
        dataset.RescaleSlope, dataset.RescaleIntercept = f"{slopes[index]:.6g}", "0"

    write_series(make_slices(stored, modality="PT", edit=edit), tmp_path / "series")
    values = read(open_source(tmp_path / "series"))
    assert values.dtype == np.float32
    np.testing.assert_allclose(values, stored * slopes[:, None, None], rtol=1e-5)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless])
def test_compressed_slices_decode(tmp_path, syntax):
    stored = make_stored((3, 64, 64))
    datasets = make_slices(stored)
    for dataset in datasets:
        compress(dataset, syntax, generate_instance_uid=False)
    write_series(datasets, tmp_path / "series")
    assert np.array_equal(read(open_source(tmp_path / "series")), stored.astype(int) - 1024)


def test_only_what_is_asked_for_is_decoded(tmp_path, monkeypatch):
    paths = write_series(make_slices(make_stored()), tmp_path / "series", seed=None)
    source = open_source(tmp_path / "series")
    paths[5].unlink()
    assert source.sequence.decode(2).shape == (1, 10, 12)
    with pytest.raises(FormatError, match="IM0005"):
        source.sequence.decode(5)


def test_an_enhanced_image_is_sorted_by_place_and_says_which_frame_is_which(tmp_path):
    stored, affine = make_stored(), make_affine()
    order = [3, 0, 6, 1, 5, 2, 4]
    path = write_dicom(make_enhanced(stored, affine, order=order), tmp_path / "scan.dcm")
    source = open_source(path)
    assert np.array_equal(read(source), stored.astype(int) - 1024)
    assert source.header.frames == tuple((0, order.index(i) + 1) for i in range(7))
    np.testing.assert_allclose(source.sequence.geometry.affine, affine, atol=1e-6)


def test_a_folder_of_several_series_is_split_and_listed(tmp_path):
    write_series(make_slices(make_stored(), series="a"), tmp_path / "study" / "a")
    write_series(make_slices(make_stored(), series="b", modality="MR"), tmp_path / "study" / "b.1")
    write_picture(make_fan(1)[0], tmp_path / "study" / "still.png")
    write_dicom(make_dicom(make_fan(3)), tmp_path / "study" / "cine.dcm")
    found = find_sources(tmp_path / "study")
    names = [str(path.relative_to(tmp_path / "study")) for path in found.paths]
    assert names == ["a", "b.1", "cine.dcm", "still.png"]
    assert {len(files) for files in found.files.values()} == {7}
    for path in found.paths:
        source = open_source(path, files=found.files.get(path, ()))
        assert (source.sequence.geometry is not None) == (path in found.files)
    with pytest.raises(FormatError, match=r"4 images.*a \(7 slices\).*cine\.dcm"):
        open_source(tmp_path / "study")


def test_series_in_one_folder_are_named_by_their_first_file(tmp_path):
    folder = tmp_path / "study"
    for number, series in enumerate("ab"):
        for index, dataset in enumerate(make_slices(make_stored(), series=series)):
            folder.mkdir(exist_ok=True)
            write_dicom(dataset, folder / f"{number}{index}")
    assert [path.name for path in find_sources(folder).paths] == ["00", "10"]


def test_echoes_at_the_same_places_are_split(tmp_path):
    folder = tmp_path / "study"
    for echo in (10, 20):

        def edit(dataset, index, echo=echo):
            dataset.EchoTime = echo
            dataset.SOPInstanceUID = f"1.2.{echo}.{index}"
            dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID

        datasets = make_slices(make_stored(seed=echo), modality="MR", slope=None, edit=edit)
        write_series(datasets, folder / str(echo))
    found = find_sources(folder)
    assert [path.name for path in found.paths] == ["10", "20"]
    for path in found.paths:
        source = open_source(path, files=found.files[path])
        assert np.array_equal(read(source), make_stored(seed=int(path.name)))


def test_a_thousand_headers_are_read_quickly(tmp_path):
    write_series(make_slices(make_stored((1000, 4, 4))), tmp_path / "series")
    begin = time.process_time()
    found = find_sources(tmp_path / "series")
    assert time.process_time() - begin < HEADERS_SECONDS
    assert len(found.files[tmp_path / "series"]) == 1000


def test_missing_slices_are_interpolated_on_demand_and_marked(tmp_path):
    stored = np.repeat(np.arange(0, 800, 100, dtype=np.uint16)[:, None], 20, 1).reshape(8, 4, 5)
    datasets = make_slices(stored)
    write_series(datasets[:3] + datasets[5:], tmp_path / "series")
    source = open_source(tmp_path / "series", dicom=DicomOptions(gaps="interpolate"))
    assert source.sequence.unknown == (3, 4)
    assert np.array_equal(read(source), stored.astype(int) - 1024)
    assert any("numbers 4, 5" in text for text in source.sequence.warnings)
    assert [index for index, _ in source.header.frames] == [0, 1, 2, -1, -1, 3, 4, 5]


@pytest.mark.parametrize("gaps", ["refuse", "interpolate"])
def test_slices_that_touch_are_taken_where_they_lie(tmp_path, gaps):
    heights = np.array([0, 2, 4, 5.5, 8, 10, 12.0])

    def edit(dataset, index):
        dataset.ImagePositionPatient = ["0", "0", str(heights[index])]

    ramp = np.broadcast_to((heights * 100).astype(np.uint16)[:, None, None], (7, 3, 4))
    write_series(make_slices(ramp, edit=edit), tmp_path / "series")
    source = open_source(tmp_path / "series", dicom=DicomOptions(gaps=gaps))
    assert source.sequence.unknown == ()
    assert np.array_equal(read(source)[:, 0, 0], 100 * heights - 1024)
    assert source.sequence.uneven.heights_mm == pytest.approx(heights)


def test_ultrasound_stills_at_one_place_are_a_cine_by_number(tmp_path):
    from bedside.io.dicom.series import open_series

    frames = make_fan(4)
    paths = []
    for index, number in enumerate([4, 2, 1, 3]):
        dataset = make_dicom(frames[number - 1 : number], tags={"InstanceNumber": number})
        paths.append(write_dicom(dataset, tmp_path / f"{index}.dcm"))
    sequence, _ = open_series(paths, path=tmp_path)
    assert np.array_equal(np.stack(list(sequence))[:, 0], frames)
    assert sequence.geometry is None
    assert find_sources(tmp_path).files == {tmp_path: tuple(sorted(paths))}


def test_headers_hold_no_pixels(tmp_path):
    write_series(make_slices(make_stored()), tmp_path / "series")
    source = open_source(tmp_path / "series")
    assert all("PixelData" not in instance for instance in source.header.instances)
    assert source.header.first.PatientName == "Test^Synthetic"
    assert isinstance(source.header.first, pydicom.Dataset)
