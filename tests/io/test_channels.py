from pathlib import Path

import nibabel
import numpy as np
import pytest

from bedside.errors import FormatError, GeometryError, UsageError
from bedside.io.channels import check_same_grid, join_channels, join_named
from bedside.io.source import open_source
from bedside.spec import InputSpec


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


NAMED = InputSpec(
    modality="MR", channels=3, size_px=(8, 8), channel_names=("t1", "flair", "t1ce"),
    optional_channels=("t1", "t1ce"),
)  # fmt: skip


def test_channels_by_name_come_in_the_networks_order_and_missing_ones_are_0(tmp_path):
    flair, t1 = write(tmp_path / "a.nii", 1), write(tmp_path / "b.nii", 2)
    joined = join_named({"flair": flair, "t1": t1}, NAMED)
    frame = joined.sequence.decode(3)
    assert frame.dtype == np.int16
    np.testing.assert_array_equal(frame[0], t1.sequence.decode(3)[0])
    np.testing.assert_array_equal(frame[1], flair.sequence.decode(3)[0])
    assert not frame[2].any()
    assert [text for text in joined.sequence.warnings if "channel t1ce was not given" in text]


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        (["t1"], FormatError, "no channel flair was given.*not all: t1, t1ce"),
        ([], FormatError, "no channel flair"),
        (["flair", "t2"], UsageError, 'no channel "t2".*Did you mean "t1"'),
    ],
)
def test_channels_that_must_be_there_and_unknown_ones_are_named(tmp_path, names, error, message):
    source = write(tmp_path / "a.nii")
    with pytest.raises(error, match=message):
        join_named(dict.fromkeys(names, source), NAMED)
    with pytest.raises(UsageError, match="have no names"):
        join_named({"t1": source}, InputSpec(modality="MR", channels=1, size_px=(8, 8)))
