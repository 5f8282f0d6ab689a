"""Uneven slices through the whole pipeline: labels on each slice, mm and ml that are right."""

from dataclasses import replace

import numpy as np
import pytest

from bedside.evaluation.cases import lay_out
from bedside.io.source import open_source
from bedside.pipeline.frames.plan import stack_neighbours
from bedside.pipeline.postprocess import EditLog, LabelGrid, apply_postprocess
from bedside.pipeline.volumes.prepare import plan_transform, prepare_volume
from bedside.pipeline.volumes.scan import even_out
from bedside.pipeline.volumes.tilt import correct_gantry_tilt
from bedside.report.areas import measure_areas
from bedside.segment import Segmentation, Segmenter
from bedside.spec import (
    CropBody,
    DropSmall,
    Eccentricity,
    FillHoles,
    InputSpec,
    KeepLargest,
    Opening,
    Orient,
    Resample,
    Size,
    WindowLevel,
    named_spec,
)
from bedside.volume import Box, Geometry, ImageSequence, LabelMap, UnevenSlices
from uneven_makers import BALL_ML, FORMS, HEAD_CT, SIZE, TILT, middle_mm, write_uneven
from volume_makers import Threshold, make_spec

ORIENTATIONS = {
    "axial": (1, 0, 0, 0, 1, 0),
    "axial from above": (1, 0, 0, 0, -1, 0),
    "coronal": (1, 0, 0, 0, 0, -1),
    "sagittal": (0, 1, 0, 0, 0, -1),
}
STEPS = (Orient(), Resample(spacing_mm=(2.0, 1.0, 1.0)), WindowLevel(level=0, width=2000.0))


def make_spec_2d(*preprocess, size=SIZE, neighbours=0):
    """A slice-wise deployment."""
    spec = make_spec()
    channels = 2 * neighbours + 1
    model = replace(named_spec("nano", spatial_dims=2), in_channels=channels, logit_stride=1)
    inputs = InputSpec("CT", channels, size, neighbours=neighbours)
    return replace(spec, input=inputs, model=model, preprocess=preprocess)


def measure(sequence, labels, affine):
    """Centroid in mm and volume in ml of label 1, as the slices cover the patient."""
    heights, covered = np.array(sequence.uneven.heights_mm), sequence.uneven.covered_mm
    index = np.argwhere(labels.array == 1)
    places = np.column_stack([heights[index[:, 0]], index[:, 1:], np.ones(len(index))])
    centroid = np.average(places @ affine[:3].T, axis=0, weights=covered[index[:, 0]])
    (areas,) = measure_areas(
        labels, make_spec().labels, region=Box(0, 0, *SIZE), uneven=sequence.uneven,
        slice_mm=sequence.slice_spacing_mm,
    )  # fmt: skip
    return centroid, areas


@pytest.mark.parametrize("lean", [(0.0, 0.0), TILT])
@pytest.mark.parametrize("plane", ORIENTATIONS)
@pytest.mark.parametrize("name", FORMS)
def test_a_network_of_three_axes_labels_every_real_slice(tmp_path, name, plane, lean):
    form = FORMS[name]
    path, affine = write_uneven(tmp_path, form, orientation=ORIENTATIONS[plane], lean=lean)
    sequence = open_source(path).sequence
    found = Segmenter(make_spec(*STEPS, size=(16, 32, 32)), Threshold()).segment_sequence(sequence)
    assert found.labels.array.shape == (len(form[0]), *SIZE)
    centroid, areas = measure(sequence, found.labels, affine)
    assert np.linalg.norm(centroid - middle_mm(form[0], affine)) < 0.5
    assert areas.volume_ml == pytest.approx(BALL_ML, rel=0.05)
    assert areas.box_mm[0] == pytest.approx(32, abs=4)


@pytest.mark.parametrize("plane", ["axial", "sagittal"])
def test_the_body_is_cut_out_of_uneven_slices_too(tmp_path, plane):
    path, affine = write_uneven(tmp_path, HEAD_CT, orientation=ORIENTATIONS[plane])
    sequence = open_source(path).sequence
    spec = make_spec(CropBody(threshold=-900.0, margin=0.1), *STEPS, size=(16, 32, 32))
    prepared = prepare_volume(sequence, spec)
    assert prepared.transform.body[0] != slice(0, 60)
    found = Segmenter(spec, Threshold()).segment_sequence(sequence).labels
    centroid, areas = measure(sequence, found, affine)
    assert np.linalg.norm(centroid - middle_mm(HEAD_CT[0], affine)) < 0.5
    assert areas.volume_ml == pytest.approx(BALL_ML, rel=0.05)
    assert not found.array[0].any()


@pytest.mark.parametrize("plane", ORIENTATIONS)
def test_labels_go_in_where_logits_come_back(tmp_path, plane):
    path, _ = write_uneven(tmp_path, FORMS["three blocks"], orientation=ORIENTATIONS[plane])
    sequence = open_source(path).sequence
    spec = make_spec(Orient(), Resample(spacing_mm=(1.0, 1.0, 1.0)))
    transform = prepare_volume(sequence, spec).transform
    assert transform == plan_transform(sequence, spec)
    labels = (np.stack(list(sequence))[:, 0] > 0).astype(np.uint8)
    tensor = transform.project(labels).astype(np.float32)
    logits = np.stack([np.full_like(tensor, 0.5), tensor])
    back = transform.restore([logits], stride=1)
    assert 2 * (back & labels).sum() / (back.sum() + labels.sum()) > 0.97


def test_a_slice_wise_network_sees_each_slice_as_it_was_taken(tmp_path):
    path, affine = write_uneven(tmp_path, HEAD_CT, lean=TILT)
    sequence = open_source(path).sequence
    network = Threshold()
    network.predict = lambda tensor: (
        network.seen.append(tensor) or np.concatenate([np.full_like(tensor, 0.5), tensor], axis=1)
    )
    found = Segmenter(make_spec_2d(WindowLevel(level=0, width=2000.0)), network)
    labels = found.segment_sequence(sequence).labels
    slices = np.stack(list(sequence))
    seen = np.concatenate(network.seen)
    np.testing.assert_allclose(seen, np.clip((slices + 1000.0) / 2000.0, 0, 1), atol=1e-3)
    assert np.array_equal(labels.array, slices[:, 0] > 0)
    centroid, areas = measure(sequence, labels, affine)
    assert np.linalg.norm(centroid - middle_mm(HEAD_CT[0], affine)) < 0.5
    assert areas.volume_ml == pytest.approx(BALL_ML, rel=0.04)


def make_cine(heights, edges):
    """Slices whose value is their number."""
    return ImageSequence(
        shape=(len(heights), 1, 2, 2),
        decode=lambda index: np.full((1, 2, 2), index, np.int16),
        spacing_mm=(1.0, 1.0),
        slice_spacing_mm=(edges[-1] - edges[0]) / len(heights),
        uneven=UnevenSlices(tuple(heights), tuple(edges)),
    )


def test_neighbours_are_the_next_slices_of_another_place():
    sequence = make_cine([0.0, 4.0, 8.0, 8.0, 15.0], [-2.0, 2.0, 6.0, 8.0, 11.5, 18.5])
    seen = [frame[:, 0, 0].tolist() for frame in stack_neighbours(sequence, 1)]
    assert seen == [[0, 0, 1], [0, 1, 2], [1, 2, 4], [1, 3, 4], [3, 4, 4]]
    plain = replace(sequence, uneven=None)
    assert [frame[:, 0, 0].tolist() for frame in stack_neighbours(plain, 1)][3] == [2, 3, 4]


def test_the_even_scan_is_linear_between_the_slices():
    heights = np.array([0.0, 3.0, 6.0, 11.0, 16.0])
    edges = [-1.5, 1.5, 4.5, 8.0, 13.5, 18.5]
    sequence = replace(
        make_cine(heights, edges),
        decode=lambda index: np.full((1, 2, 2), 100 * heights[index], np.float32),
    )
    even = even_out(sequence)
    step = even.slice_spacing_mm
    places = np.clip(-1.5 + (np.arange(len(even)) + 0.5) * step, 0, 16)
    np.testing.assert_allclose(np.stack(list(even))[:, 0, 0, 0], 100 * places, atol=1e-3)
    assert len(even) * step == pytest.approx(20.0)


def test_each_slice_is_decoded_once_for_the_even_scan():
    decoded = []
    sequence = make_cine([0.0, 3.0, 6.0, 11.0, 16.0], [-1.5, 1.5, 4.5, 8.0, 13.5, 18.5])
    sequence = replace(
        sequence, decode=lambda index: decoded.append(index) or np.zeros((1, 2, 2), np.int16)
    )
    list(even_out(sequence))
    assert decoded == [0, 1, 2, 3, 4]


def test_a_tilt_moves_each_slice_by_its_own_height(tmp_path):
    path, _ = write_uneven(tmp_path, HEAD_CT, lean=TILT)
    sequence = open_source(path).sequence
    _, way_back = correct_gantry_tilt(sequence)
    moved_mm = (way_back.offsets[:, 0] - way_back.offsets[0, 0]) * 1.1
    expected = HEAD_CT[0] * TILT[0]
    assert np.abs(moved_mm - expected).max() <= 0.56


GRID = LabelGrid(
    (5.0, 1.0, 1.0),
    uneven=UnevenSlices((0.0, 2.0, 4.0, 9.0, 17.0), (-1.0, 1.0, 3.0, 6.0, 12.0, 24.0)),
)


def make_islands():
    """Six voxels in slices of 2 mm, and two in the one of 12 mm."""
    labels = np.zeros((5, 8, 8), np.uint8)
    labels[:2, 1, 1:4] = 1
    labels[4, 6, 5:7] = 1
    return labels


@pytest.mark.parametrize("step", [KeepLargest(), DropSmall(min_ml=0.02)])
def test_an_island_is_as_large_as_what_its_slices_cover(step):
    labels, edits_made = apply_postprocess(make_islands(), [step], label_values=[1], grid=GRID)
    assert labels[4].sum() == 2  # 24 mm3, and not 12 mm3 as six of eight voxels would make
    assert not labels[:2].any()
    edits = EditLog(make_spec().labels, of_frames=1)
    edits.add(edits_made)
    (change,) = edits.changes(spacing_mm=GRID.spacing_mm)
    assert change.size_px == 6
    assert change.size_ml == pytest.approx(0.012)


def test_holes_that_are_filled_count_as_what_they_cover():
    labels = np.ones((5, 8, 8), np.uint8)
    labels[3, 4, 4] = 0
    filled, edits_made = apply_postprocess(labels, [FillHoles()], label_values=[1], grid=GRID)
    assert filled.all()
    edits = EditLog(make_spec().labels, of_frames=1)
    edits.add(edits_made)
    assert edits.changes(spacing_mm=GRID.spacing_mm)[0].size_ml == pytest.approx(0.006)


def test_a_size_in_ml_is_that_of_the_slices():
    prior = Size(label=1, unit="ml", least=1.0)
    _, (edit,) = apply_postprocess(make_islands(), [], label_values=[1], priors=[prior], grid=GRID)
    assert edit.value == pytest.approx(0.012 + 0.024)


def test_a_shape_is_measured_at_its_places():
    labels = np.zeros((5, 20, 20), np.uint8)
    labels[:, :16, :16] = 1
    prior = Eccentricity(label=1, least=0.0, most=0.3)
    assert apply_postprocess(labels, [], label_values=[1], priors=[prior], grid=GRID)[1]


def test_an_opening_reaches_as_far_along_the_slices_as_within_them():
    """A plate of one thick slice stays, one of a thin slice goes, at the same radius."""
    labels = np.zeros((5, 24, 24), np.uint8)
    labels[1, 2:10, 2:10] = 1
    labels[4, 12:22, 12:22] = 1
    step = Opening(radius_mm=2.5)
    opened, _ = apply_postprocess(labels, [step], label_values=[1], grid=GRID)
    assert not opened[1].any()
    assert opened[4, 15:19, 15:19].all()


def test_scores_weigh_slices_by_what_they_cover():
    sequence = make_cine(GRID.uneven.heights_mm, GRID.uneven.edges_mm)
    sequence = replace(sequence, shape=(5, 1, 8, 8), geometry=_geometry())
    truth, found = np.zeros((5, 8, 8), np.uint8), np.zeros((5, 8, 8), np.uint8)
    truth[:, 2:6, 2:6] = 1
    found[4, 2:6, 2:6] = 1
    result = Segmentation(LabelMap(found), {}, Box(0, 0, 8, 8), sequence.voxel_mm, ())
    expected, prediction, spacing_mm = lay_out(sequence, truth, result)
    voxel_mm3 = np.prod(spacing_mm)
    assert expected.sum() * voxel_mm3 == pytest.approx(16 * 25, rel=1e-6)
    assert prediction.sum() * voxel_mm3 == pytest.approx(16 * 12, rel=1e-6)


def _geometry():
    affine = np.diag([1.0, 1.0, 5.0, 1.0])[:, [2, 1, 0, 3]]
    return Geometry((5, 8, 8), affine, space="LPS")
