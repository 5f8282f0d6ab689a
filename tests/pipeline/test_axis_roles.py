"""What axes and scale mean for a bundle: films are no volumes, and a default is no measurement."""

import re
from dataclasses import replace

import numpy as np
import pytest

from bedside.errors import GeometryError
from bedside.pipeline.axis_roles import resolve_axes
from bedside.pipeline.frames.plan import stack_neighbours
from bedside.spec import DeploymentSpec, InputSpec, LevelSpec, ModelSpec
from bedside.volume import Geometry, ImageSequence
from makers import LABELS

AFFINE = np.eye(4)[[2, 1, 0, 3]]


def make_spec(modality="US", spatial_dims=2):
    size = (32,) * spatial_dims
    return DeploymentSpec(
        name="it", version="1", task="", input=InputSpec(modality, 1, size), labels=LABELS,
        preprocess=(),
        model=ModelSpec(
            "x", 1, 4, levels=(LevelSpec("conv", 1, 1),), spatial_dims=spatial_dims
        ),
    )  # fmt: skip


def make_cine(*, spacing=(2.5, 0.5, 0.5), shape=(10, 1, 200, 200), **changes):
    sequence = ImageSequence(
        shape, lambda index: np.zeros(shape[1:], np.uint8), spacing_mm=spacing[1:],
        slice_spacing_mm=spacing[0],
        geometry=Geometry((shape[0], *shape[2:]), AFFINE @ np.diag([*spacing, 1]), space="LPS"),
    )  # fmt: skip
    return replace(sequence, **changes)


@pytest.mark.parametrize("modality", ["US", "ES", "XC", "XA"])
def test_a_third_axis_that_nobody_names_is_time_where_films_are_usual(modality):
    sequence = resolve_axes(make_cine(), make_spec(modality))
    assert (sequence.third_axis, sequence.geometry, sequence.slice_spacing_mm) == (
        "time",
        None,
        None,
    )
    assert sequence.unit == "frame"
    assert "--third-axis space" in sequence.warnings[0]
    assert resolve_axes(sequence, make_spec(modality)) == sequence


@pytest.mark.parametrize(
    ("changes", "modality"),
    [({}, "CT"), ({}, "MR"), ({"third_axis": "space"}, "US"), ({"modality": "US"}, "US")],
)
def test_slices_stay_slices_where_somebody_says_so(changes, modality):
    sequence = make_cine(**changes)
    assert resolve_axes(sequence, make_spec(modality)) is sequence


@pytest.mark.parametrize("modality", ["CT", "MR", "US"])
def test_time_is_time_whatever_the_kind_of_image(modality):
    sequence = resolve_axes(make_cine(third_axis="time"), make_spec(modality))
    assert (sequence.geometry, sequence.slice_spacing_mm, sequence.unit) == (None, None, "frame")
    assert sequence.warnings == ()


def test_a_network_of_three_axes_takes_no_film():
    with pytest.raises(GeometryError, match="10 frames follow each other in time"):
        resolve_axes(make_cine(third_axis="time"), make_spec(spatial_dims=3))
    assert resolve_axes(make_cine(), make_spec(spatial_dims=3)).slice_spacing_mm == 2.5


def test_a_default_grid_is_no_scale_and_stays_slices():
    sequence = resolve_axes(make_cine(spacing=(1.0, 1.0, 1.0), default_grid=True), make_spec("MR"))
    assert (sequence.spacing_mm, sequence.slice_spacing_mm, sequence.unit) == (None, None, "slice")
    assert "1 x 1 x 1 mm is what programs write" in sequence.warnings[0]
    assert resolve_axes(sequence, make_spec("MR")) == sequence
    kept = resolve_axes(
        make_cine(spacing=(1.0, 1.0, 1.0), default_grid=True), make_spec("MR", spatial_dims=3)
    )
    assert kept.voxel_mm == (1.0, 1.0, 1.0)
    assert len(kept.warnings) == 1


def test_a_millimetre_is_real_in_mr_and_no_pixel_of_ultrasound():
    sequence = make_cine(spacing=(1.0, 1.0, 1.0), third_axis="space")
    assert resolve_axes(sequence, make_spec("MR")) is sequence
    assert resolve_axes(sequence, make_spec("CT")) is sequence
    assert resolve_axes(sequence, make_spec("US")).spacing_mm is None


def test_a_millimetre_is_real_where_dicom_places_every_slice():
    sequence = make_cine(spacing=(1.0, 1.0, 1.0), third_axis="space", modality="US")
    assert resolve_axes(sequence, make_spec("US")) is sequence
    unplaced = replace(sequence, geometry=None)
    assert resolve_axes(unplaced, make_spec("US")).spacing_mm is None


@pytest.mark.parametrize(
    ("spacing", "shape", "modality", "says"),
    [
        ((1.0, 2.2, 2.2), (1, 1, 200, 200), "US", "pixels are 0.005 to 2 mm wide"),
        ((1.0, 0.9, 0.9), (1, 1, 600, 800), "US", "720 mm wide"),
        ((1.0, 0.0005, 0.0005), (1, 1, 200, 200), "US", "pixels are"),
        ((5.0, 2.5, 2.5), (20, 1, 512, 512), "CT", "1.28e[+]03 mm wide"),
        ((0.001, 0.02, 0.02), (20, 1, 256, 256), "MR", "5.12 mm wide"),
        ((500.0, 0.7, 0.7), (20, 1, 512, 512), "CT", "1e[+]04 mm long"),
    ],
)
def test_a_scale_that_is_hardly_possible_is_doubted(spacing, shape, modality, says):
    sequence = make_cine(spacing=spacing, shape=shape, third_axis="space")
    doubted = resolve_axes(sequence, make_spec(modality))
    assert doubted.spacing_mm == sequence.spacing_mm
    (text,) = doubted.warnings
    assert "may not hold" in text
    assert re.search(says, text)
    assert resolve_axes(doubted, make_spec(modality)) == doubted


@pytest.mark.parametrize(
    ("spacing", "shape", "modality"),
    [
        ((1.0, 0.3, 0.3), (1, 1, 480, 640), "US"),
        ((1.0, 1.0, 1.0), (35, 1, 50, 36), "MR"),
        ((10.0, 1.5, 1.5), (10, 1, 256, 216), "MR"),
        ((2.5, 1.0, 1.0), (120, 1, 512, 512), "CT"),
        ((1.0, 0.7, 0.7), (1700, 1, 512, 512), "CT"),
    ],
)
def test_scales_that_are_usual_are_not_doubted(spacing, shape, modality):
    sequence = make_cine(spacing=spacing, shape=shape, third_axis="space")
    assert resolve_axes(sequence, make_spec(modality)) is sequence


def test_axes_in_another_order_than_the_arrays_are_refused():
    sequence = make_cine(third_axis="space", shape=(3, 1, 4, 5))
    swapped = Geometry((5, 4, 3), AFFINE, space="LPS")
    with pytest.raises(GeometryError, match="3 frames of"):
        resolve_axes(replace(sequence, geometry=swapped), make_spec("CT"))
    # Columns of (x, y, z), as nibabel has them, for an array (z, y, x).
    swapped = Geometry((3, 4, 5), np.diag([0.5, 0.5, 2.5, 1.0]), space="RAS")
    with pytest.raises(GeometryError, match="columns in the array's order"):
        resolve_axes(replace(sequence, geometry=swapped), make_spec("CT"))


def test_a_frame_of_a_film_has_no_neighbours_in_space():
    array = np.arange(4, dtype=np.uint8)[:, None, None] * np.ones((1, 2, 2), np.uint8)
    for axis, seen in (("time", [2, 2, 2]), ("space", [1, 2, 3])):
        sequence = stack_neighbours(ImageSequence.from_array(array, third_axis=axis), 1)
        assert sequence.decode(2)[:, 0, 0].tolist() == seen
