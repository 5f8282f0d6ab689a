from pathlib import Path

import nibabel
import numpy as np
import pytest

from bedside.errors import GeometryError
from bedside.io.channels import check_same_grid, join_channels
from bedside.io.source import open_source


def write(path: Path, seed=0, shape=(6, 5, 4), shift=0.0, spacing=1.0):
    affine = np.diag([spacing, spacing, 2.0, 1.0])
    affine[0, 3] = shift
    array = np.random.default_rng(seed).integers(0, 99, shape).astype(np.int16)
    nibabel.save(nibabel.Nifti1Image(array, affine), path)
    return open_source(path)


def test_channels_come_one_after_the_other_in_the_order_given(tmp_path):
    first, second = write(tmp_path / "a.nii", 1), write(tmp_path / "b.nii", 2)
    joined = join_channels([first, second])
    assert joined.sequence.shape == (4, 2, 5, 6)
    frame = joined.sequence.decode(3)
    np.testing.assert_array_equal(frame[0], first.sequence.decode(3)[0])
    np.testing.assert_array_equal(frame[1], second.sequence.decode(3)[0])
    assert joined.path == first.path
    assert joined.sequence.geometry is first.sequence.geometry


def test_one_file_stays_as_it_is(tmp_path):
    source = write(tmp_path / "a.nii")
    assert join_channels([source]) is source


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": (6, 5, 3)}, "has .frames, height, width. .3, 5, 6."),
        ({"shift": 0.3}, "lies elsewhere"),
        ({"spacing": 1.1}, "lies elsewhere"),
    ],
)
def test_a_channel_on_another_grid_is_refused_and_named(tmp_path, change, message):
    first, other = write(tmp_path / "a.nii"), write(tmp_path / "b.nii", **change)
    with pytest.raises(GeometryError, match=message) as caught:
        join_channels([first, other])
    assert "b.nii" in str(caught.value)


def test_rounding_of_an_affine_is_no_other_place(tmp_path):
    first, other = write(tmp_path / "a.nii"), write(tmp_path / "b.nii", shift=0.01)
    check_same_grid(first, other, what="channel")
