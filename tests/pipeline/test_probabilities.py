"""Class probabilities on the source grid: beside a plain softmax, and beside the labels."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from bedside.errors import MemoryLimitError
from bedside.pipeline.frames.pipeline import FramePipeline
from bedside.pipeline.logits import find_place, most_likely
from bedside.pipeline.memory import plan_frames, plan_volume
from bedside.pipeline.volumes.pipeline import VolumePipeline
from bedside.pipeline.volumes.prepare import plan_transform
from bedside.segment import Segmenter
from bedside.spec import (
    CropBody,
    CropCentre,
    Fit,
    KeepLargest,
    LocalCrf,
    Orient,
    Resample,
    ScaleRange,
    WindowLevel,
    ZScore,
)
from bedside.volume import Geometry, UnevenSlices
from dicom_makers import make_affine
from threads_for_tests import SIZES, make_clouds, make_deployment
from volume_makers import make_geometry, make_scan

NOMINAL = ScaleRange(source="nominal")


class Waves:
    """A network whose four classes are waves of brightness."""

    backend, precision, threads = "test", "f32", 1

    def predict(self, tensor, out=None):
        steps = np.arange(1, 5).reshape(-1, *[1] * (tensor.ndim - 2))
        logits = np.float32(5) * np.sin(7 * steps * tensor).astype(np.float32)
        if out is None:
            return logits
        out[:] = logits
        return out


def segment(spec, sequence, **options):
    found = Segmenter(spec, Waves()).segment_sequence(
        sequence, probabilities=True, force=True, **options
    )
    chances = found.probabilities
    assert chances.dtype == np.float32
    assert chances.shape == (4, *found.labels.array.shape)
    np.testing.assert_allclose(chances.sum(axis=0), 1, atol=1e-5)
    if not spec.postprocess:
        np.testing.assert_array_equal(chances.argmax(axis=0), found.labels.array)
    return found


def make_geometry_of(array, lean=(0.0, 0.0)):
    return Geometry(array.shape, make_affine(spacing=(3.0, 1.0, 1.0), lean=lean), space="LPS")


def test_of_frames_as_large_as_the_network_they_are_the_softmax_of_its_logits():
    array = make_clouds(3, *SIZES[2])
    found = segment(make_deployment(2, (Fit(), NOMINAL)), make_scan(array))
    tensor = array[:, None] / np.float32(255)
    expected = softmax(Waves().predict(tensor).astype(float), axis=1).swapaxes(0, 1)
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-5)


def test_of_a_scan_as_large_as_the_window_they_are_the_softmax_of_its_logits():
    array = make_clouds(SIZES[3][0], *SIZES[3][1:])
    found = segment(make_deployment(3, (NOMINAL,)), make_scan(array / np.float32(255)))
    tensor = array[None, None] / np.float32(255)
    expected = softmax(Waves().predict(tensor).astype(float), axis=1)[0]
    np.testing.assert_allclose(found.probabilities, expected, atol=1e-5)


@pytest.mark.parametrize("refine", [(), (LocalCrf(),)])
def test_of_a_part_of_a_frame_all_around_it_is_background(refine):
    array = make_clouds(2, 90, 120)
    spec = make_deployment(2, (CropCentre(size_px=(60, 50)), Fit(), NOMINAL), refine=refine)
    chances = segment(spec, make_scan(array)).probabilities
    outside = np.ones((90, 120), bool)
    outside[15:75, 35:85] = False
    assert (chances[0][:, outside] == 1).all()
    assert (chances[0][:, ~outside] < 1).mean() > 0.9


def test_repairs_change_labels_and_not_probabilities():
    array = make_clouds(2, 90, 120)
    plain = make_deployment(2, (Fit(), NOMINAL))
    repaired = replace(plain, postprocess=(KeepLargest(),))
    before, after = (segment(spec, make_scan(array)) for spec in (plain, repaired))
    assert (before.labels.array != after.labels.array).any()
    np.testing.assert_array_equal(before.probabilities, after.probabilities)


@pytest.mark.parametrize("lean", [(0.0, 0.0), (0.36, 0.0), (0.2, -0.3)])
@pytest.mark.parametrize(("order", "signs"), [((0, 1, 2), (1, 1, 1)), ((2, 0, 1), (-1, 1, -1))])
def test_of_oriented_resampled_and_tilted_scans_the_largest_is_the_label(order, signs, lean):
    array = make_clouds(12, 30, 34)
    geometry = make_geometry_of(array, lean)
    if not any(lean):
        geometry = make_geometry(array.shape, (3.0, 1.0, 1.0), order, signs)
    steps = (Orient(), Resample(spacing_mm=(2.0, 1.3, 0.9)), WindowLevel(level=128, width=256))
    segment(make_deployment(3, steps), make_scan(array, geometry, (3.0, 1.0, 1.0)))


def test_of_a_scan_whose_body_is_cut_out_all_around_it_is_background():
    array = np.zeros((12, 60, 70), np.float32)
    array[2:10, 20:45, 15:50] = make_clouds(8, 25, 35) + np.float32(300)
    steps = (CropBody(threshold=200, margin=0), WindowLevel(level=428, width=256))
    chances = segment(make_deployment(3, steps), make_scan(array)).probabilities
    assert (chances[0, :, :, 60:] == 1).all()
    assert (chances[0, 4:8, 25:40, 20:45] < 1).mean() > 0.9


def test_slices_that_are_missing_are_background():
    array = make_clouds(6, 40, 40)
    sequence = replace(make_scan(array), unknown=(2, 3))
    for spatial_dims in (2, 3):
        steps = (Fit(), NOMINAL) if spatial_dims == 2 else (ZScore(),)
        found = segment(make_deployment(spatial_dims, steps), sequence)
        assert (found.probabilities[0, [2, 3]] == 1).all()
        assert (found.probabilities[0, [1, 4]] < 1).any()


def test_uneven_slices_each_get_those_of_their_place():
    heights = (0.0, 3.0, 6.0, 11.0, 16.0)
    edges = (-1.5, 1.5, 4.5, 8.0, 13.5, 18.5)
    array = make_clouds(5, 30, 34)
    mean_mm = (edges[-1] - edges[0]) / len(heights)
    affine = make_affine(spacing=(mean_mm, 1.0, 1.0))
    sequence = replace(
        make_scan(array, Geometry(array.shape, affine, space="LPS"), (mean_mm, 1.0, 1.0)),
        uneven=UnevenSlices(heights, edges),
    )
    steps = (Orient(), Resample(spacing_mm=(2.0, 1.0, 1.0)), WindowLevel(level=128, width=256))
    segment(make_deployment(3, steps), sequence)
    by_slice = segment(make_deployment(2, (Fit(), NOMINAL)), sequence)
    assert len(by_slice.probabilities[0]) == 5


def test_nothing_is_worked_out_unless_it_is_asked_for():
    found = Segmenter(make_deployment(2, (Fit(), NOMINAL)), Waves()).segment_sequence(
        make_scan(make_clouds(1, 40, 40)), force=True
    )
    assert found.probabilities is None


@given(seed=st.integers(0, 1000), classes=st.integers(2, 5))
def test_the_largest_is_the_label_where_logits_differ_in_their_last_bit(seed, classes):
    rng = np.random.default_rng(seed)
    base = rng.normal(0, 1e-3, (1, 8, 8)).astype(np.float32).repeat(classes, axis=0)
    steps = rng.integers(0, 2, base.shape).astype(bool)
    logits = np.where(steps, np.nextafter(base, np.float32(9)), base)
    place = find_place((8, 8), begin=(0, 0), size=(8, 8))
    chances = np.empty_like(logits)
    labels = most_likely(logits, place, probabilities=chances)
    np.testing.assert_array_equal(labels, most_likely(logits, place))
    np.testing.assert_array_equal(labels, logits.argmax(axis=0))
    np.testing.assert_array_equal(labels, chances.argmax(axis=0))
    np.testing.assert_allclose(chances.sum(axis=0), 1, atol=1e-5)


def test_a_ceiling_counts_them():
    frames = make_scan(np.zeros((10, 80, 90), np.uint8))
    plain = plan_frames(frames, base_bytes=0).peak_bytes
    more = plan_frames(frames, base_bytes=0, classes=4).peak_bytes
    assert more - plain >= 4 * 4 * 10 * 80 * 90
    spec = make_deployment(3, (ZScore(),))
    transform = plan_transform(frames, spec)
    plain, more = (
        plan_volume(frames, transform, spec, base_bytes=0, probabilities=asked).peak_bytes
        for asked in (False, True)
    )
    assert more - plain >= 4 * 4 * 10 * 80 * 90
    network = Segmenter(make_deployment(2, (Fit(), NOMINAL)), Waves())
    peak = network.plan_memory(frames, max_bytes=2**40, probabilities=True).peak_bytes
    with pytest.raises(MemoryLimitError):
        network.segment_sequence(frames, max_bytes=peak, probabilities=True, force=True)


def test_a_ceiling_counts_those_of_a_tilted_scan_on_both_grids():
    array = np.zeros((10, 80, 90), np.uint8)
    pipeline = VolumePipeline(make_deployment(3, (ZScore(),)), Waves())
    more = []
    for lean in ((0.0, 0.0), (0.36, 0.0)):
        scan = make_scan(array, make_geometry_of(array, lean))
        plain, kept = (
            pipeline.plan_memory(scan, base_bytes=0, max_bytes=2**40, probabilities=asked)
            for asked in (False, True)
        )
        more.append(kept.peak_bytes - plain.peak_bytes)
    assert more[1] - more[0] >= 4 * 4 * array.size


def test_a_loop_over_frames_writes_to_the_buffers_that_it_is_given():
    array = make_clouds(4, 90, 120)
    spec = make_deployment(2, (CropCentre(size_px=(60, 50)), Fit(), NOMINAL))
    pipeline = FramePipeline(spec, Waves())
    plan = pipeline.plan(make_scan(array), force=True)
    buffers = pipeline.make_buffers(plan, probabilities=True)
    for frame in array[:, None]:
        alone = pipeline.run(frame, plan, probabilities=True)
        found = pipeline.run(frame, plan, out=buffers)
        assert found.labels is buffers.labels
        assert found.probabilities is buffers.probabilities
        np.testing.assert_array_equal(buffers.tensor, plan.apply(frame))
        np.testing.assert_array_equal(buffers.logits, Waves().predict(buffers.tensor))
        np.testing.assert_array_equal(found.labels, alone.labels)
        np.testing.assert_array_equal(found.probabilities, alone.probabilities)
        assert list(found.stage_ms) == ["preprocess", "network", "postprocess"]
    assert pipeline.run(array[:1], plan).probabilities is None
