"""Files of one image as its channels, and spacings known from elsewhere."""

from dataclasses import replace

import numpy as np
import pytest

from bedside.datasets import Case, read_truth
from bedside.datasets.case import read_case
from bedside.errors import DataError
from layout_makers import (
    AFFINE,
    make_image,
    make_truth,
    write_nifti,
)


def two_channels(path, affine=AFFINE, shape=(9, 6, 4)) -> Case:
    images = (
        write_nifti(path / "a_t1.nii.gz", make_image()),
        write_nifti(path / "a_t2.nii.gz", 3 + make_image(shape), affine),
    )
    return Case("a", "a", images, write_nifti(path / "a_seg.nii.gz", make_truth((1, 4))))


def test_files_of_one_image_become_its_channels_in_order(tmp_path):
    source, _ = read_case(two_channels(tmp_path), (1, 2, 3, 4))
    assert source.sequence.shape == (4, 2, 6, 9)
    first, second = source.sequence.decode(3)
    assert (first == make_image()[:, :, 3].T).all()
    assert (second == first + np.uint8(3)).all()


@pytest.mark.parametrize(
    ("affine", "shape", "says"),
    [
        (AFFINE + np.eye(4, k=3), (9, 6, 4), "a_t2.nii.gz lies elsewhere"),
        (AFFINE, (9, 6, 5), "a_t2.nii.gz has"),
    ],
)
def test_channels_on_different_grids_are_refused(tmp_path, affine, shape, says):
    with pytest.raises(DataError, match=f"case a: .*{says}.*Resample the channel"):
        read_case(two_channels(tmp_path, affine, shape), (1, 4))


def test_a_value_without_a_label_is_refused_also_where_labels_are_renumbered(tmp_path):
    case = two_channels(tmp_path)
    renumbered = Case(case.case_id, "a", case.images, case.truth, truth_values={0: 0, 1: 1, 4: 3})
    truth = read_truth(renumbered, (1, 2, 3))
    assert sorted(np.unique(truth)) == [0, 1, 3]
    without = Case(case.case_id, "a", case.images, case.truth, truth_values={0: 0, 1: 1})
    with pytest.raises(DataError, match=r"case a: .* holds the label 4; expected only 0, 1"):
        read_truth(without, (1, 2, 3))


def test_a_spacing_known_from_elsewhere_takes_the_place_of_the_headers(tmp_path):
    case = replace(two_channels(tmp_path), spacing_mm=(8.0, 1.25, 1.5))
    sequence = read_case(case, (1, 4))[0].sequence
    assert sequence.spacing_mm == (1.25, 1.5)
    assert sequence.slice_spacing_mm == 8.0
