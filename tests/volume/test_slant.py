"""Grids that are not at right angles: volumes of slanted stacks, and refused pixels."""

import nibabel
import numpy as np
import pytest

from bedside.errors import GeometryError
from bedside.io.source import open_source
from bedside.volume import Geometry, ImageSequence


def write_slanted(path, *, row, column, amount):
    """(x, y, z) of 10 x 12 x 8 voxels of 1 x 1 x 2 mm, one axis leaning along another."""
    lean = np.eye(4)
    lean[row, column] = amount
    affine = np.diag([1.0, 1.0, 2.0, 1.0]) @ lean
    image = nibabel.Nifti1Image(np.arange(960, dtype=np.int16).reshape(10, 12, 8), affine)
    image.header.set_xyzt_units("mm")
    nibabel.save(image, path)
    return affine


@pytest.mark.parametrize(("row", "column", "amount"), [(1, 2, 0.8), (0, 2, -1.2)])
def test_a_tilted_scan_has_the_volume_of_its_voxels(tmp_path, row, column, amount):
    affine = write_slanted(tmp_path / "a.nii", row=row, column=column, amount=amount)
    sequence = open_source(tmp_path / "a.nii").sequence
    assert np.prod(sequence.voxel_mm) == pytest.approx(abs(np.linalg.det(affine[:3, :3])))
    assert sequence.voxel_mm == pytest.approx((2.0, 1.0, 1.0))
    given = ImageSequence.from_array(
        np.zeros((8, 12, 10), np.int16), affine=affine[:, [2, 1, 0, 3]], space="RAS"
    )
    assert given.voxel_mm == pytest.approx((2.0, 1.0, 1.0))


def test_a_straight_scan_keeps_its_spacing_to_the_bit(tmp_path):
    write_slanted(tmp_path / "a.nii", row=1, column=2, amount=0.0)
    assert open_source(tmp_path / "a.nii").sequence.voxel_mm == (2.0, 1.0, 1.0)


def test_pixels_that_are_no_rectangles_are_refused(tmp_path):
    affine = write_slanted(tmp_path / "a.nii", row=0, column=1, amount=0.3)
    with pytest.raises(GeometryError, match=r"a\.nii: rows and columns .* meet at 73 degrees"):
        open_source(tmp_path / "a.nii")
    with pytest.raises(GeometryError, match="73 degrees"):
        ImageSequence.from_array(
            np.zeros((8, 12, 10), np.int16), affine=affine[:, [2, 1, 0, 3]], space="RAS"
        )
    # What an affine registration leaves is not.
    write_slanted(tmp_path / "b.nii", row=0, column=1, amount=0.03)
    assert open_source(tmp_path / "b.nii").sequence.voxel_mm[0] == 2.0


def test_slant_of_a_grid():
    affine = np.array([[0.0, 0, 1, 0], [3, 1, 0, 0], [4, 0, 0, 0], [0, 0, 0, 1]])
    assert Geometry((9, 4, 4), affine, space="LPS").slant == pytest.approx(0.8)
    assert Geometry((9, 4, 4), np.eye(4), space="LPS").slant == 1.0
