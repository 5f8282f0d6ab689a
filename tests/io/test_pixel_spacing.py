"""A pixel spacing that the user states: taken where the file has none, never against the file."""

import numpy as np
import pytest

from bedside.errors import GeometryError, UsageError
from bedside.io.read_options import ReadOptions
from makers import make_dicom, make_fan, make_region, write_dicom, write_nifti, write_picture


def _open(path, row_mm, column_mm):
    return ReadOptions(pixel_spacing_mm=(row_mm, column_mm)).open(path).sequence


def test_a_picture_gets_the_spacing_that_is_given_and_says_whose_it_is(tmp_path):
    path = write_picture(make_fan(1)[0], tmp_path / "x.png")
    sequence = _open(path, 0.2, 0.3)
    assert sequence.spacing_mm == (0.2, 0.3)
    assert sequence.warnings == (
        "the file has no pixel spacing to be trusted; 0.2 x 0.3 mm were given",
    )
    assert ReadOptions().open(path).sequence.spacing_mm is None


def test_a_spacing_that_is_not_the_files_is_refused_with_both(tmp_path):
    path = write_nifti(np.zeros((4, 4, 3), np.uint8), tmp_path / "x.nii", spacing_mm=(0.5, 0.8, 2))
    assert _open(path, 0.804, 0.5).spacing_mm == pytest.approx((0.8, 0.5))
    with pytest.raises(GeometryError, match=r"x\.nii: .* 0\.8 x 0\.5 mm .* 0\.82 x 0\.5 mm"):
        _open(path, 0.82, 0.5)


def test_the_millimetre_that_programs_write_by_default_gives_way(tmp_path):
    path = write_nifti(np.zeros((4, 4), np.uint8), tmp_path / "x.nii", spacing_mm=(1, 1, 1))
    sequence = _open(path, 0.2, 0.3)
    assert (sequence.spacing_mm, sequence.default_grid) == ((0.2, 0.3), False)


def test_an_ultrasound_cine_without_a_scale_gets_one_and_one_with_it_keeps_it(tmp_path):
    bare = write_dicom(make_dicom(make_fan()), tmp_path / "bare.dcm")
    assert _open(bare, 0.2, 0.2).spacing_mm == (0.2, 0.2)
    scaled = write_dicom(
        make_dicom(make_fan(), regions=[make_region((0, 0, 63, 47))]), tmp_path / "scaled.dcm"
    )
    own = ReadOptions().open(scaled).sequence.spacing_mm
    assert own is not None
    with pytest.raises(GeometryError, match="mm are given"):
        _open(scaled, own[0] * 1.02, own[1])


def test_pixels_of_another_shape_are_refused(tmp_path):
    dataset = make_dicom(make_fan(), tags={"PixelAspectRatio": [2, 1]})
    path = write_dicom(dataset, tmp_path / "x.dcm")
    assert _open(path, 0.4, 0.2).spacing_mm == (0.4, 0.2)
    with pytest.raises(GeometryError, match="2 times as high as wide"):
        _open(path, 0.2, 0.2)


@pytest.mark.parametrize("spacing_mm", [(0.0, 1.0), (-1.0, 1.0), (float("nan"), 1.0)])
def test_a_spacing_that_is_none_is_refused(spacing_mm):
    with pytest.raises(UsageError, match="above 0"):
        ReadOptions(pixel_spacing_mm=spacing_mm)
