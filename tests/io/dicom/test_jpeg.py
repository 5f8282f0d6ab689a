"""JPEG forms that bedside decodes itself: lossless of any kind, and grey of 12 bits."""

import shutil
import subprocess

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some
from pydicom import dcmread
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate, generate_frames

from bedside.errors import FormatError
from bedside.io.dicom import pixels
from bedside.io.dicom.jpeg_12_bit import decode_12_bit_jpeg
from bedside.io.dicom.jpeg_lossless import decode_lossless_jpeg
from jpeg_makers import compress_lossless_jpeg, encode_lossless_jpeg
from makers import make_dicom


def read_pixels(path, index=0):
    dataset = dcmread(path)
    return pixels.FrameDecoder(dataset, path, int(dataset.get("NumberOfFrames", 1)))(index)


def make_values(rows, columns, samples, precision, *, seed=0, spread=1.0):
    """Values with every difference from none to the whole range, (H, W, samples)."""
    rng = np.random.default_rng(seed)
    shape = rows, columns, samples
    steps = rng.normal(0, 1, shape) * np.exp(rng.uniform(0, 12 * spread, shape))
    values = np.cumsum(steps, axis=1) + 2 ** (precision - 1)
    return values.astype(np.int64) % 2**precision


@settings(max_examples=60)
@given(
    some.integers(1, 9), some.integers(1, 9), some.sampled_from([1, 3]), some.integers(2, 16),
    some.integers(1, 7), some.data(),
)  # fmt: skip
def test_any_precision_predictor_and_order_of_scans_decodes(
    rows, columns, samples, precision, predictor, data
):
    shift = data.draw(some.integers(0, precision - 1))
    restart_rows, interleaved = data.draw(some.integers(0, rows)), data.draw(some.booleans())
    form = {
        "precision": precision, "predictor": predictor, "shift": shift,
        "restart_rows": restart_rows, "interleaved": interleaved,
    }  # fmt: skip
    values = make_values(rows, columns, samples, precision, seed=data.draw(some.integers(0, 99)))
    frame = encode_lossless_jpeg(values, **form)
    found = decode_lossless_jpeg(frame, values.shape)
    assert np.array_equal(found, values >> shift << shift)


@pytest.mark.parametrize(("predictor", "samples"), [(1, 1), (4, 1), (1, 3)])
def test_an_image_of_many_chunks_decodes(predictor, samples):
    values = make_values(150, 200 // samples, samples, 16)
    frame = encode_lossless_jpeg(values, predictor=predictor)
    assert len(frame) > 4 * 2**13
    assert np.array_equal(decode_lossless_jpeg(frame, values.shape), values)


def test_a_tall_narrow_image_needs_no_more_memory_than_a_wide_one():
    values = make_values(30000, 1, 1, 8)
    frame = encode_lossless_jpeg(values, precision=8, predictor=7)
    assert np.array_equal(decode_lossless_jpeg(frame, values.shape), values)


def test_colours_of_a_real_file_are_those_of_the_uncompressed_one():
    names = "SC_rgb_jpeg_gdcm.dcm", "SC_rgb_rle.dcm"
    compressed, plain = (get_testdata_file(name, download=False) for name in names)
    assert np.array_equal(read_pixels(compressed), read_pixels(plain))


@pytest.mark.parametrize("form", ["1", "2", "3", "4", "5", "6", "7", "1 2", "6 3"])
@pytest.mark.skipif(shutil.which("dcmcjpeg") is None, reason="NOT TESTED with dcmtk: not here")
def test_files_of_dcmtk_decode(form, tmp_path):
    predictor, *shift = form.split()
    source, path = get_testdata_file("CT_small.dcm", download=False), tmp_path / "x.dcm"
    words = ["+el", "+sv", predictor, *(["+pt", *shift] if shift else [])]
    subprocess.run(["dcmcjpeg", *words, source, path], check=True)
    cut = int(shift[0]) if shift else 0
    assert np.array_equal(read_pixels(path), read_pixels(source) >> cut << cut)


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(("kind", "bits"), [(np.uint8, 8), (np.uint16, 12), (np.uint16, 16)])
def test_a_cine_decodes_to_its_stored_values(kind, bits, signed, tmp_path):
    rng = np.random.default_rng(0)
    stored = rng.integers(0, 2**bits, (3, 12, 10)).astype(kind)
    tags = {"BitsStored": bits, "HighBit": bits - 1, "PixelRepresentation": int(signed)}
    dataset = make_dicom(stored, tags=tags)
    plain = pixels.FrameDecoder(make_dicom(stored, tags=tags), tmp_path, 3)
    decoder = pixels.FrameDecoder(compress_lossless_jpeg(dataset), tmp_path, 3)
    for index in (2, 0):
        assert np.array_equal(decoder(index), plain(index))
        assert decoder(index).dtype == plain(index).dtype


def test_damage_is_a_format_error_whatever_byte_it_meets(tmp_path):
    whole = encode_lossless_jpeg(make_values(6, 5, 1, 12), precision=12, restart_rows=2)
    rng = np.random.default_rng(0)
    refused = 0
    for place in range(2, len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= int(rng.integers(1, 256))
        try:
            decode_lossless_jpeg(bytes(damaged), (6, 5, 1))
        except ValueError:
            refused += 1
    assert refused > 50
    for size in range(len(whole) - 4):
        with pytest.raises(ValueError, match=r"ends early|no JPEG"):
            decode_lossless_jpeg(whole[:size], (6, 5, 1))


def test_a_frame_of_another_size_is_refused(tmp_path):
    dataset = compress_lossless_jpeg(make_dicom(np.zeros((1, 8, 8), np.uint8)))
    dataset.Rows = 7
    with pytest.raises(FormatError, match="it codes 8 x 8 pixels of 1 samples"):
        pixels.FrameDecoder(dataset, tmp_path, 1)


# One image twice, once with a scan header that stricter decoders refuse; values as pydicom's tests
# have them from libjpeg.
@pytest.mark.parametrize("name", ["JPGExtended.dcm", "JPEG-lossy.dcm"])
def test_grey_of_12_bits_decodes(name):
    found = read_pixels(get_testdata_file(name, download=False))
    assert (found.shape, found.dtype) == ((1, 1024, 256), np.uint16)
    assert (found[0, 420, 140], found[0, 230, 120]) == (244, 95)


def test_grey_of_12_bits_that_is_cut_or_of_another_size_is_refused(tmp_path):
    dataset = dcmread(get_testdata_file("JPGExtended.dcm", download=False))
    (frame,) = generate_frames(dataset.PixelData, number_of_frames=1)
    with pytest.raises(ValueError, match="1024 x 256"):
        decode_12_bit_jpeg(frame, (1024, 255, 1))
    dataset.PixelData = encapsulate([frame[: len(frame) // 2]])
    with pytest.raises(FormatError, match="has no end"):
        pixels.FrameDecoder(dataset, tmp_path, 1)
