"""Frames in colour are views of (H, W, C) memory, as decoders and OpenCV have it."""

import nibabel
import numpy as np
import pytest
import SimpleITK

from bedside.io.read_options import Limits, ReadOptions
from bedside.io.source import open_source
from makers import compress_jpeg, make_dicom, write_picture

PIXELS = np.random.default_rng(0).integers(0, 255, (2, 24, 32, 3)).astype(np.uint8)


def _make(kind, folder):
    if kind == "png":
        return write_picture(PIXELS[0], folder / "x.png")
    path = folder / f"x.{kind}"
    if kind == "mha":
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(PIXELS, isVector=True), str(path))
        return path
    if kind == "nrrd":
        header = b"NRRD0004\ntype: uchar\ndimension: 4\nsizes: 3 32 24 2\nencoding: raw\n"
        path.write_bytes(header + b"kinds: RGB-color space space space\n\n" + PIXELS.tobytes())
        return path
    if kind == "nii":
        rgb = np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")])
        array = PIXELS.view(rgb)[..., 0].transpose(2, 1, 0)
        nibabel.Nifti1Image(array, np.eye(4)).to_filename(path)
        return path
    dataset = make_dicom(PIXELS)
    if kind == "ybr":
        dataset.PhotometricInterpretation = "YBR_FULL"
    return compress_jpeg(dataset) if kind == "jpeg" else dataset


@pytest.mark.parametrize("kind", ["rgb", "ybr", "jpeg", "png", "nii", "nrrd", "mha"])
def test_a_colour_frame_is_a_view_of_rows_of_pixels(tmp_path, kind):
    frame = open_source(_make(kind, tmp_path)).sequence.decode(0)
    assert frame.shape == (3, 24, 32)
    assert frame.transpose(1, 2, 0).flags.c_contiguous
    if kind not in ("ybr", "jpeg"):
        assert np.array_equal(frame, PIXELS[0].transpose(2, 0, 1))


def test_it_is_one_out_of_the_sandbox_too(tmp_path):
    path = _make("png", tmp_path)
    frame = ReadOptions(untrusted=Limits(1024, 120)).open(path).sequence.decode(0)
    assert frame.transpose(1, 2, 0).flags.c_contiguous
    assert np.array_equal(frame, PIXELS[0].transpose(2, 0, 1))
