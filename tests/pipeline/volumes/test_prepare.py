import dataclasses

import numpy as np
import pytest

import bedside.system.parallel
from bedside.errors import FormatError, GeometryError, SpecError
from bedside.pipeline.resize import resize_linear, sample_weights
from bedside.pipeline.volumes.prepare import prepare_volume
from bedside.segment import Segmenter
from bedside.spec import (
    FillHoles,
    Fit,
    InputSpec,
    KeepLargest,
    Orient,
    Resample,
    ScalePercentile,
    WindowLevel,
)
from bedside.volume import find_orientation
from volume_makers import (
    ORIENTATIONS,
    Threshold,
    centroid_mm,
    draw_phantom,
    make_channels,
    make_geometry,
    make_scan,
    make_spec,
)

SPACING = (3.0, 0.8, 1.2)


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
def test_a_phantom_is_found_where_it_is_however_the_axes_run(order, signs):
    shape = (14, 40, 28)
    geometry = make_geometry(shape, SPACING, order, signs, tilt=0.2)
    middle = (geometry.affine @ [*(np.array(shape) / 2), 1])[:3]
    truth = draw_phantom(geometry, np.add(middle, (4, -3, 2)), 9.0)
    scan = make_scan(truth.astype(np.uint8) * 200, geometry)
    spec = make_spec(Orient(), Resample(spacing_mm=(1.5, 1.5, 1.5)), ScalePercentile(), stride=2)
    found = Segmenter(spec, Threshold(2)).segment_sequence(scan).labels.array
    assert found.shape == shape
    apart = centroid_mm(found == 1, geometry) - centroid_mm(truth, geometry)
    assert np.abs(apart).max() < 0.5 * min(SPACING)


@pytest.mark.parametrize(("order", "signs"), ORIENTATIONS)
def test_the_network_always_sees_the_patient_from_the_same_side(order, signs):
    geometry = make_geometry((6, 7, 8), (1, 1, 1), order, signs)
    oriented = find_orientation(geometry).apply(
        np.moveaxis(
            (geometry.affine[:3, :3] @ np.indices(geometry.shape).reshape(3, -1)).reshape(
                3, *geometry.shape
            ),
            0,
            -1,
        ).transpose(3, 0, 1, 2)
    )
    left, back, head = oriented
    assert (np.diff(head, axis=0) > 0).all()
    assert (np.diff(back, axis=1) > 0).all()
    assert (np.diff(left, axis=2) > 0).all()


def test_a_scan_larger_than_the_window_is_covered_by_several():
    rng = np.random.default_rng(0)
    array = rng.integers(0, 255, (11, 23, 37)).astype(np.uint8)
    network = Threshold()
    spec = make_spec(WindowLevel(level=127.5, width=255))
    found = Segmenter(spec, network).segment_sequence(make_scan(array)).labels.array
    assert len(network.seen) > 1
    assert {tensor.shape for tensor in network.seen} == {(1, 1, 8, 16, 16)}
    np.testing.assert_array_equal(found, array / 255 > 0.5)


def test_a_scan_smaller_than_the_window_is_padded_and_comes_back():
    array = np.zeros((5, 9, 11), np.int16)
    array[1:3, 4:8, 2:5] = 300
    found = Segmenter(make_spec(ScalePercentile()), Threshold()).segment_sequence(make_scan(array))
    np.testing.assert_array_equal(found.labels.array, array > 0)
    assert found.stage_ms["total"].shape == (1,)


@pytest.mark.parametrize("shape", [(5, 9, 11), (12, 30, 30), (9, 17, 16)])
def test_labels_go_in_and_logits_come_back_to_the_same_place(shape):
    rng = np.random.default_rng(1)
    labels = (rng.random(shape) > 0.5).astype(np.uint8)
    prepared = prepare_volume(make_channels(labels[None]), make_spec())
    placed = prepared.transform.project(labels)
    assert placed.shape == prepared.tensor.shape[1:]
    np.testing.assert_array_equal(placed, prepared.tensor[0])
    logits = np.stack([np.full(placed.shape, 0.5, np.float32), placed.astype(np.float32)])
    np.testing.assert_array_equal(prepared.transform.restore([logits], stride=1), labels)


def test_window_level_maps_its_window_to_zero_and_one():
    array = np.float32([[[-1000, -160, 40, 240, 3000]]])
    spec = make_spec(WindowLevel(level=40, width=400), size=(2, 2, 2))
    tensor = prepare_volume(make_channels(array[None]), spec).tensor
    np.testing.assert_allclose(tensor[0, 0, 0], [0, 0, 0.5, 1, 1])


def test_the_input_is_not_changed():
    array = np.random.default_rng(0).random((1, 4, 5, 6))
    before = array.copy()
    prepare_volume(make_channels(array), make_spec(ScalePercentile()))
    np.testing.assert_array_equal(array, before)


def test_resampling_without_a_known_spacing_is_refused():
    scan = make_scan(np.zeros((3, 4, 5), np.uint8))
    spec = make_spec(Resample(spacing_mm=(1, 1, 1)))
    with pytest.raises(GeometryError, match="not known"):
        prepare_volume(scan, spec)


def test_a_scan_of_unknown_spacing_is_resampled_to_a_number_of_voxels():
    array = np.random.default_rng(0).integers(0, 255, (6, 8, 10)).astype(np.uint8)
    spec = make_spec(Resample(size_vox=(0, 4, 5)), size=(2, 4, 4), stride=1)
    seen = prepare_volume(make_scan(array), spec)
    assert seen.transform.grid == (6, 4, 5)
    np.testing.assert_allclose(seen.array[0], resize_linear(array, (6, 4, 5)), atol=1e-3)


def test_distances_are_known_after_resampling_to_a_number_of_voxels():
    scan = make_scan(
        np.zeros((6, 8, 10), np.uint8), make_geometry((6, 8, 10), SPACING, *ORIENTATIONS[0])
    )
    steps = (Resample(size_vox=(0, 4, 4)), Resample(spacing_mm=(1.5, 1.6, 1.5)))
    spec = make_spec(*steps, size=(2, 4, 4))
    assert prepare_volume(scan, spec).transform.grid == (12, 4, 8)


@pytest.mark.parametrize(
    "given",
    [{}, {"spacing_mm": (1, 1, 1), "size_vox": (8, 8, 8)}, {"size_vox": (0, -1, 8)}],
)
def test_resampling_needs_a_spacing_or_a_size(given):
    with pytest.raises(SpecError, match="expected"):
        Resample(**given)


def test_a_scan_that_does_not_say_how_it_lies_is_warned_of():
    prepared = prepare_volume(make_channels(np.ones((1, 2, 2, 2))), make_spec(Orient()))
    assert "left and right may be exchanged" in prepared.warnings[0]


def test_a_wrong_number_of_channels_is_refused():
    with pytest.raises(FormatError, match="2 channels"):
        prepare_volume(make_channels(np.ones((2, 2, 2, 2))), make_spec())


@pytest.mark.parametrize(("share", "refused"), [(0.0005, False), (0.01, True)])
def test_a_few_broken_voxels_are_mended_and_many_refused(share, refused):
    array = np.ones((1, 10, 20, 20))
    array.ravel()[: round(share * array.size)] = np.nan
    if refused:
        with pytest.raises(FormatError, match="NaN"):
            prepare_volume(make_channels(array), make_spec())
    else:
        assert np.isfinite(prepare_volume(make_channels(array), make_spec()).tensor).all()


def test_repairs_work_in_three_axes():
    array = np.zeros((8, 16, 16), np.uint8)
    array[1:7, 2:9, 2:9] = 255
    array[3, 5, 5] = 0
    array[6, 14, 14] = 255
    spec = make_spec(ScalePercentile(), postprocess=(KeepLargest(), FillHoles()))
    found = Segmenter(spec, Threshold()).segment_sequence(make_scan(array)).labels.array
    assert found[3, 5, 5] == 1
    assert found[6, 14, 14] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"preprocess": (Fit(),)}, 'step "fit" is not for a network of 3 axes'),
        ({"input": InputSpec("CT", 1, (8, 8))}, "model.spatial_dims is 3"),
    ],
)
def test_a_deployment_of_mixed_axes_is_refused(change, message):
    with pytest.raises(SpecError, match=message):
        dataclasses.replace(make_spec(), **change)


@pytest.mark.parametrize("order_signs", ORIENTATIONS[::7])
@pytest.mark.parametrize("new_mm", [(1.5, 1.5, 1.5), (4.0, 0.8, 0.5), SPACING])
def test_resampling_slice_by_slice_is_resampling_the_whole(order_signs, new_mm):
    geometry = make_geometry((9, 14, 11), SPACING, *order_signs)
    array = np.random.default_rng(0).normal(0, 300, geometry.shape).astype(np.int16)
    spec = make_spec(Orient(), Resample(spacing_mm=new_mm))
    seen = prepare_volume(make_scan(array, geometry), spec)
    turned = find_orientation(geometry).apply(array)
    np.testing.assert_allclose(
        seen.array[0], resize_linear(turned, seen.transform.grid), rtol=1e-4, atol=1e-2
    )


@pytest.mark.parametrize("order_signs", ORIENTATIONS[::5])
def test_labels_slab_by_slab_are_those_of_all_logits_at_once(monkeypatch, order_signs):
    geometry = make_geometry((9, 14, 11), SPACING, *order_signs)
    spec = make_spec(Orient(), Resample(spacing_mm=(1.5, 1.5, 1.5)), stride=2, size=(8, 8, 8))
    scan = make_scan(np.zeros(geometry.shape, np.int16), geometry)
    transform = prepare_volume(scan, spec).transform
    shape = tuple(size // 2 for size in transform.tensor_shape)
    logits = np.random.default_rng(3).normal(size=(5, *shape)).astype(np.float32)
    slabs = np.split(logits, [1, 3, 4, 7], axis=1) if shape[0] > 7 else np.split(logits, [2], 1)
    turned = transform.orientation.apply(np.empty(geometry.shape)).shape
    placed = logits
    for axis in range(3):
        begin, size = transform.offset[axis] // 2, transform.grid[axis] // 2
        at = (np.arange(turned[axis]) + 0.5) * size / turned[axis] - 0.5
        weights = sample_weights(begin + np.clip(at, 0, size - 1), placed.shape[1 + axis])
        placed = np.apply_along_axis(weights.dot, 1 + axis, placed)
    expected = transform.orientation.undo(placed.argmax(0))
    found = transform.restore(slabs, stride=2)
    for workers in (1, 3):
        monkeypatch.setattr(bedside.system.parallel, "count_workers", lambda count=workers: count)
        assert (transform.restore(slabs, stride=2) == found).all()
    # Sums in another order round another way, where two classes are as good as equal.
    assert (found != expected).mean() < 1e-3
