"""DICOM cines: pixels as pydicom gives them, calibration believed where it fits, refusals."""

import contextlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.pixels import get_decoder
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, RLELossless

from bedside.errors import FormatError
from bedside.io.dicom.cine import open_dicom
from bedside.volume import Box
from makers import compress_jpeg, make_dicom, make_fan, make_region, write_dicom
from tolerances import JPEG_LEVELS

pytest_plugins = ["memory_fixtures"]
pytestmark = pytest.mark.usefixtures("in_little_memory")

SONOSITE = Path(get_testdata_file("examples_ybr_color.dcm"))


def _open(dataset, folder):
    return open_dicom(write_dicom(dataset, folder / "cine.dcm"))[0]


def test_the_sonosite_cine_opens_with_neither_its_region_nor_its_scale():
    sequence, header = open_dicom(SONOSITE)
    assert sequence.shape == (30, 3, 240, 320)
    assert (sequence.region, sequence.spacing_mm) == (None, None)
    assert sequence.frame_time_ms == pytest.approx(33.333)
    assert sequence.modality == "US"
    assert "595 of a frame 320 wide" in sequence.warnings[0]
    assert any("loss" in warning for warning in sequence.warnings)
    assert "PixelData" not in header.first


def test_the_quick_jpeg_way_gives_pydicoms_pixels():
    sequence, _ = open_dicom(SONOSITE)
    dataset = pydicom.dcmread(SONOSITE)
    decoder = get_decoder(dataset.file_meta.TransferSyntaxUID)
    for index in (0, 7, 29):
        expected, _ = decoder.as_array(dataset, index=index)
        found = sequence.decode(index).transpose(1, 2, 0).astype(int)
        assert np.abs(found - expected).max() <= JPEG_LEVELS


@pytest.mark.parametrize("colour", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_uncompressed_frames_come_back_exactly(tmp_path, colour, dtype):
    shape = (4, 11, 13, 3) if colour else (4, 11, 13)
    pixels = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, shape).astype(dtype)
    sequence = _open(make_dicom(pixels), tmp_path)
    frames = np.stack([sequence.decode(index) for index in (3, 0, 1, 2)])
    expected = pixels[[3, 0, 1, 2]]
    expected = expected.transpose(0, 3, 1, 2) if colour else expected[:, None]
    assert frames.dtype == dtype
    assert np.array_equal(frames, expected)


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
@pytest.mark.parametrize("colour", [False, True])
def test_losslessly_compressed_frames_come_back_exactly(tmp_path, syntax, colour):
    shape = (3, 32, 40, 3) if colour else (3, 32, 40)
    pixels = np.random.default_rng(1).integers(0, 255, shape).astype(np.uint8)
    dataset = make_dicom(pixels)
    if colour and syntax == JPEG2000Lossless:
        dataset.PhotometricInterpretation = "YBR_RCT"
    dataset.compress(syntax)
    sequence = _open(dataset, tmp_path)
    expected = pixels.transpose(0, 3, 1, 2) if colour else pixels[:, None]
    assert np.array_equal(np.stack(list(sequence)), expected)


def test_uncompressed_ybr_becomes_rgb(tmp_path):
    red = np.tile(np.array([76, 85, 255], np.uint8), (1, 4, 6, 1))
    sequence = _open(make_dicom(red, tags={"PhotometricInterpretation": "YBR_FULL"}), tmp_path)
    assert np.abs(sequence.decode(0)[:, 0, 0].astype(int) - [254, 0, 0]).max() <= 1


def test_monochrome1_is_turned_once(tmp_path):
    pixels = np.arange(24, dtype=np.uint16).reshape(1, 4, 6)
    tags = {"PhotometricInterpretation": "MONOCHROME1", "BitsStored": 12, "HighBit": 11}
    sequence = _open(make_dicom(pixels, tags=tags), tmp_path)
    assert np.array_equal(sequence.decode(0)[0], 4095 - pixels[0])


def test_a_palette_becomes_rgb():
    path = Path(get_testdata_file("examples_palette.dcm"))
    sequence, _ = open_dicom(path)
    dataset = pydicom.dcmread(path)
    table = np.frombuffer(dataset.RedPaletteColorLookupTableData, np.uint16) >> 8
    assert sequence.shape[1] == 3
    assert np.array_equal(sequence.decode(0)[0], table[dataset.pixel_array])


def test_a_region_that_fits_gives_crop_and_scale(tmp_path):
    region = make_region((5, 3, 60, 44), delta_cm=(0.05, -0.04))
    sequence = _open(make_dicom(make_fan(), regions=[region]), tmp_path)
    assert sequence.region == Box(3, 5, 45, 61)
    assert sequence.spacing_mm == pytest.approx((0.4, 0.5))
    assert sequence.warnings == ()


@pytest.mark.parametrize(
    ("corners", "number"), [((5, 3, 70, 44), "column 70"), ((5, 3, 60, 96), "row 96")]
)
def test_a_region_outside_its_frame_gives_neither_crop_nor_scale(tmp_path, corners, number):
    sequence = _open(make_dicom(make_fan(), regions=[make_region(corners)]), tmp_path)
    assert (sequence.region, sequence.spacing_mm) == (None, None)
    assert number in sequence.warnings[0]
    assert "0.05 cm" in sequence.warnings[0]


def test_a_region_that_ends_one_pixel_past_the_frame_is_cut(tmp_path):
    sequence = _open(make_dicom(make_fan(), regions=[make_region((5, 3, 64, 48))]), tmp_path)
    assert sequence.region == Box(3, 5, 48, 64)
    assert sequence.spacing_mm == pytest.approx((0.5, 0.5))
    assert "one pixel" in sequence.warnings[0]


def test_a_region_not_in_cm_gives_a_crop_without_scale(tmp_path):
    sequence = _open(
        make_dicom(make_fan(), regions=[make_region((5, 3, 60, 44), units=4)]), tmp_path
    )
    assert sequence.region == Box(3, 5, 45, 61)
    assert sequence.spacing_mm is None
    assert "not calibrated in cm" in sequence.warnings[0]


def test_of_several_tissue_regions_the_largest_is_taken(tmp_path):
    regions = [
        make_region((0, 0, 63, 47), spatial_format=3),
        make_region((0, 0, 9, 9)),
        make_region((10, 10, 50, 40), delta_cm=(0.02, 0.02)),
    ]
    sequence = _open(make_dicom(make_fan(), regions=regions), tmp_path)
    assert sequence.region == Box(10, 10, 41, 51)
    assert sequence.spacing_mm == pytest.approx((0.2, 0.2))
    assert "2 ultrasound regions" in sequence.warnings[0]


@pytest.mark.parametrize(
    ("inset", "delta_cm", "known"),
    [
        ((30, 20, 45, 35), (0.01, 0.01), False),
        ((30, 20, 45, 35), (0.02, 0.02), True),  # a box of colour has the scale around it
        ((49, 10, 63, 40), (0.01, 0.01), True),  # beside it, with a shared edge
    ],
)
def test_an_inset_of_another_scale_leaves_no_scale(tmp_path, inset, delta_cm, known):
    regions = [
        make_region((10, 10, 50, 40), delta_cm=(0.02, 0.02)),
        make_region(inset, delta_cm=delta_cm, data_type=2),
    ]
    sequence = _open(make_dicom(make_fan(), regions=regions), tmp_path)
    assert sequence.region == Box(10, 10, 41, 51)
    assert (sequence.spacing_mm is not None) == known
    assert any("within the ultrasound region" in text for text in sequence.warnings) != known


def test_ultrasound_without_calibration_says_so_and_ignores_pixel_spacing(tmp_path):
    sequence = _open(make_dicom(make_fan(), tags={"PixelSpacing": [0.3, 0.3]}), tmp_path)
    assert sequence.spacing_mm is None
    assert "no ultrasound regions" in sequence.warnings[0]


def test_other_modalities_take_pixel_spacing_but_not_the_detectors(tmp_path):
    tags = {"Modality": "MR", "PixelSpacing": [0.3, 0.4]}
    assert _open(make_dicom(make_fan(1), tags=tags), tmp_path).spacing_mm == (0.3, 0.4)
    tags = {"Modality": "XA", "ImagerPixelSpacing": [0.3, 0.4]}
    assert _open(make_dicom(make_fan(1), tags=tags), tmp_path).spacing_mm is None


def test_cine_rate_stands_in_for_frame_time(tmp_path):
    sequence = _open(make_dicom(make_fan(), tags={"CineRate": 50}, drop=["FrameTime"]), tmp_path)
    assert sequence.frame_time_ms == pytest.approx(20)


@pytest.mark.parametrize("share", [0.05, 0.3, 0.7, 0.98])
@pytest.mark.parametrize("compressed", [False, True])
def test_a_truncated_cine_is_refused_wherever_it_is_cut(tmp_path, share, compressed):
    dataset = make_dicom(make_fan())
    path = write_dicom(compress_jpeg(dataset) if compressed else dataset, tmp_path / "cut.dcm")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(FormatError, match=r"cut\.dcm.*export it again"):
        open_dicom(path)


def test_the_sonosite_cine_is_refused_wherever_it_is_cut(tmp_path):
    content = SONOSITE.read_bytes()
    path = tmp_path / "cut.dcm"
    for length in range(132, len(content) - 16, 9973):
        path.write_bytes(content[:length])
        with pytest.raises(FormatError, match=r"cut\.dcm"):
            open_dicom(path)


def test_fewer_encapsulated_frames_than_declared_are_refused(tmp_path):
    dataset = compress_jpeg(make_dicom(make_fan(3)))
    dataset.NumberOfFrames = 5
    with pytest.raises(FormatError, match=r"3 of 5 frames|5 frames"):
        _open(dataset, tmp_path)


def test_a_jpeg_without_its_end_is_refused(tmp_path):
    dataset = compress_jpeg(make_dicom(make_fan(2)))
    first = dataset.PixelData.index(b"\xff\xd9")
    dataset.PixelData = dataset.PixelData[:first] + b"\0\0" + dataset.PixelData[first + 2 :]
    with pytest.raises(FormatError, match="frame 1 has no end"):
        _open(dataset, tmp_path)


@pytest.mark.parametrize("keyword", ["Rows", "BitsAllocated", "PixelRepresentation", "PixelData"])
def test_a_missing_attribute_is_named(tmp_path, keyword):
    with pytest.raises(FormatError, match=keyword):
        _open(make_dicom(make_fan(), drop=[keyword]), tmp_path)


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"Rows": 0}, "Rows is 0"),
        ({"NumberOfFrames": 0}, "NumberOfFrames"),
        ({"BitsAllocated": 32, "BitsStored": 32}, "32 bits"),
        ({"SamplesPerPixel": 4}, "4 samples"),
        ({"PhotometricInterpretation": "CMYK"}, "CMYK"),
        ({"Rows": 60000, "Columns": 60000, "NumberOfFrames": 900}, "GiB"),
    ],
)
def test_impossible_headers_are_refused_before_decoding(tmp_path, tags, words):
    with pytest.raises(FormatError, match=words):
        _open(make_dicom(make_fan(), tags=tags), tmp_path)


def test_video_in_dicom_is_refused_by_name(tmp_path):
    dataset = compress_jpeg(make_dicom(make_fan()))
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.100"
    with pytest.raises(FormatError, match=r"MPEG2.*cannot be decoded"):
        _open(dataset, tmp_path)


@pytest.mark.parametrize("path", sorted(SONOSITE.parent.glob("*.dcm")), ids=lambda path: path.name)
def test_a_file_that_pydicom_ships_is_read_or_refused_with_our_error(path):
    with contextlib.suppress(FormatError):
        sequence, _ = open_dicom(path)
        assert sequence.decode(0).shape == sequence.shape[1:]


def test_a_deflated_bomb_is_refused_while_it_inflates(tmp_path):
    dataset = make_dicom(np.zeros((1, 1000, 1000), np.uint8))
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    path = write_dicom(dataset, tmp_path / "bomb.dcm")
    assert path.stat().st_size < 10_000
    with pytest.raises(FormatError, match="inflates to more"):
        open_dicom(path, max_bytes=500_000)


def test_a_byte_behind_a_deflated_stream_does_not_hang(tmp_path):
    """A stream of odd length is filled up with a zero, which an inflater never consumes."""
    for size in (10, 11, 12, 13):
        dataset = make_dicom(make_fan(1))
        dataset.add_new(0x00091010, "OB", bytes(range(size)) + bytes(2_000_000))
        dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        path = write_dicom(dataset, tmp_path / "x.dcm")
        assert open_dicom(path)[0].shape == (1, 1, 48, 64)
