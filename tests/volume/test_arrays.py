"""Arrays with an affine: their space is named, and their axes are those of the array."""

from dataclasses import replace

import nibabel
import numpy as np
import pytest

from bedside.errors import GeometryError
from bedside.io.source import open_source
from bedside.segment import Segmenter
from bedside.spec import DeploymentSpec, InputSpec, LevelSpec, ModelSpec, Orient
from bedside.volume import Geometry, ImageSequence
from makers import LABELS

AFFINE = np.array([[-0.5, 0, 0, 7], [0, 0.6, 0, -3], [0, 0, 1.5, 2], [0, 0, 0, 1.0]])


def test_an_affine_without_its_space_is_refused():
    array = np.zeros((3, 4, 5))
    with pytest.raises(GeometryError, match='space="LPS"'):
        ImageSequence.from_array(array, affine=np.eye(4))
    with pytest.raises(TypeError, match="space"):
        Geometry((3, 4, 5), np.eye(4))
    with pytest.raises(GeometryError, match="'ras'; expected"):
        Geometry((3, 4, 5), np.eye(4), space="ras")
    with pytest.raises(GeometryError, match="frames in time"):
        ImageSequence.from_array(array, affine=np.eye(4), space="RAS", third_axis="time")


def test_nibabels_array_lies_where_its_file_does(tmp_path):
    array = np.arange(60, dtype=np.int16).reshape(5, 4, 3)
    image = nibabel.Nifti1Image(array, AFFINE)
    nibabel.save(image, tmp_path / "a.nii")
    file = open_source(tmp_path / "a.nii").sequence
    given = ImageSequence.from_array(array.T, affine=image.affine[:, [2, 1, 0, 3]], space="RAS")
    assert np.allclose(given.geometry.affine, file.geometry.affine)
    assert np.allclose(given.voxel_mm, file.voxel_mm)
    assert np.array_equal(np.stack(list(given)), np.stack(list(file)))
    # The array as nibabel gives it, with its affine as it is, is as right.
    other = ImageSequence.from_array(array, affine=image.affine, space="RAS")
    assert np.allclose(other.geometry.affine @ (4, 3, 2, 1), file.geometry.affine @ (2, 3, 4, 1))


def test_ras_and_lps_are_mirror_images_of_each_other():
    ras = Geometry((3, 4, 5), AFFINE, space="RAS")
    assert np.array_equal(ras.affine, np.diag([-1.0, -1, 1, 1]) @ AFFINE)
    assert np.array_equal(Geometry((3, 4, 5), ras.affine, space="LPS").affine, ras.affine)


def test_arrays_have_channels_or_not_and_no_other_axes():
    assert ImageSequence.from_array(np.zeros((3, 4, 5))).shape == (3, 1, 4, 5)
    sequence = ImageSequence.from_array(
        np.zeros((3, 2, 4, 5)), spacing_mm=(0.5, 0.5), third_axis="time"
    )
    assert (sequence.shape, sequence.unit) == ((3, 2, 4, 5), "frame")
    with pytest.raises(GeometryError, match="expected"):
        ImageSequence.from_array(np.zeros(5))


def test_left_and_right_are_not_drawn_on_an_array_that_lies_nowhere():
    labels = tuple(
        replace(LABELS[0], value=value, name=name)
        for value, name in enumerate(("Left kidney", "Right kidney"), 1)
    )
    spec = DeploymentSpec(
        name="it", version="1", task="", input=InputSpec("CT", 1, (4, 8, 8)), labels=labels,
        preprocess=(Orient(),),
        model=ModelSpec("x", 1, 3, levels=(LevelSpec("conv", 1, 1),), spatial_dims=3,
                        logit_stride=1),
    )  # fmt: skip

    class Nothing:
        def predict(self, tensor):
            return np.zeros((1, 3, *tensor.shape[2:]), np.float32)

    segmenter = Segmenter(spec, Nothing())
    sequence = ImageSequence.from_array(np.zeros((4, 8, 8), np.int16))
    with pytest.raises(GeometryError, match='"Left kidney" cannot be told from "Right kidney"'):
        segmenter.segment_sequence(sequence)
    assert segmenter.segment_sequence(sequence, force=True).labels.array.shape == (4, 8, 8)
    placed = ImageSequence.from_array(np.zeros((4, 8, 8), np.int16), affine=np.eye(4), space="LPS")
    segmenter.segment_sequence(placed)
