"""RLE frames by Pillow are those of pydicom's own decoder; malformed ones are refused as before."""

import numpy as np
import pytest
from pydicom.data import get_testdata_file
from pydicom.pixels import pixel_array
from pydicom.uid import RLELossless

from bedside.errors import FormatError
from bedside.io.dicom import pixels
from bedside.io.dicom.rle import decode_rle
from bedside.io.source import open_source
from makers import make_dicom

RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 4, (2, 24, 33, 3))


def _compressed(array, **tags):
    dataset = make_dicom(array, tags=tags)
    dataset.compress(RLELossless, generate_instance_uid=False)
    return dataset


@pytest.mark.parametrize("kind", ["grey", "colour", "16 bits", "signed"])
def test_every_kind_of_pixel_comes_back_exactly(kind, monkeypatch):
    array = {"grey": NOISE[..., 0] * 60, "colour": NOISE * 60}.get(kind, NOISE[..., 0] * 9000)
    dtype = {"16 bits": np.uint16, "signed": np.int16}.get(kind, np.uint8)
    array = array.astype(np.int64).astype(dtype)
    tags = {"PixelRepresentation": 1} if kind == "signed" else {}
    dataset = _compressed(array, **tags)
    monkeypatch.setattr(pixels, "encapsulate", None)  # what pydicom's decoder would need
    frames = np.stack(list(open_source(dataset).sequence))
    expected = np.moveaxis(array, -1, 1) if kind == "colour" else array[:, None]
    assert np.array_equal(frames, expected)
    assert frames.dtype == dtype


@pytest.mark.parametrize("name", ["SC_rgb_rle.dcm", "SC_rgb_rle_16bit.dcm", "MR_small_RLE.dcm"])
def test_files_of_others_decode_as_pydicom_does(name, monkeypatch):
    path = get_testdata_file(name)
    monkeypatch.setattr(pixels, "encapsulate", None)
    frame = open_source(path).sequence.decode(0)
    assert np.array_equal(np.moveaxis(frame, 0, -1).squeeze(), pixel_array(path))


def test_a_run_may_cross_the_end_of_a_row():
    frame = (1).to_bytes(4, "little") + (64).to_bytes(4, "little") + bytes(56) + b"\xf6\x07\x00\x09"
    pixels_of = decode_rle(frame, (3, 4, 1), np.dtype(np.uint8))
    assert pixels_of[..., 0].tolist() == [[7] * 4, [7] * 4, [7] * 3 + [9]]


@pytest.mark.parametrize("frame", [b"", bytes(64), b"\2" + bytes(63), b"\1\0\0\0\x40" + bytes(59)])
def test_a_malformed_frame_is_none(frame):
    assert decode_rle(frame, (3, 4, 1), np.dtype(np.uint8)) is None


def test_a_truncated_frame_is_refused_by_name():
    dataset = _compressed((NOISE[..., 0] * 60).astype(np.uint8))
    dataset.PixelData = dataset.PixelData[:200] + bytes(len(dataset.PixelData) - 200)
    with pytest.raises(FormatError, match="Dataset"):
        list(open_source(dataset).sequence)
