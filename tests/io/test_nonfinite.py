"""A warning of voxels that are no numbers counts them in words."""

import pytest

from bedside.io.nonfinite import NonfiniteVoxels


@pytest.mark.parametrize(
    ("count", "warnings"),
    [
        (0, ()),
        (1, ("1 voxel is NaN or infinite and was set to the smallest value",)),
        (2, ("2 voxels are NaN or infinite and were set to the smallest value",)),
    ],
)
def test_voxels_that_are_no_numbers_are_counted(count, warnings):
    assert NonfiniteVoxels(count, smallest=0.0).warnings == warnings
