"""Memory is predicted before a scan is read, and a ceiling changes how it is held or refuses."""

import dataclasses

import numpy as np
import pytest

from bedside.errors import MemoryLimitError
from bedside.pipeline.memory import plan_frames, plan_volume
from bedside.pipeline.volumes.prepare import plan_transform, prepare_volume
from bedside.segment import Segmenter
from bedside.spec import Opening, Orient, Resample, ScalePercentile, WindowLevel
from bedside.volume import ImageSequence
from volume_makers import Threshold, make_geometry, make_scan, make_spec

MB = 10**6
BASE = 200 * MB


def refuse(index):
    raise AssertionError("a scan was read to predict what it takes")


def unread(shape, spacing_mm=(1.5, 0.7, 0.7)):
    """A scan whose slices must not be decoded."""
    geometry = make_geometry(shape, spacing_mm, (2, 1, 0), (1, 1, 1))
    return ImageSequence(
        (shape[0], 1, *shape[1:]), refuse, spacing_mm=spacing_mm[1:],
        slice_spacing_mm=spacing_mm[0], geometry=geometry,
    )  # fmt: skip


SPEC = make_spec(
    Orient(), Resample(spacing_mm=(1.5, 1.5, 1.5)), WindowLevel(level=40, width=400),
    size=(96, 96, 96), stride=2,
)  # fmt: skip


def peak(shape, spec=SPEC, max_bytes=None):
    scan = unread(shape)
    transform = plan_transform(scan, spec)
    return plan_volume(scan, transform, spec, base_bytes=BASE, max_bytes=max_bytes)


def test_a_larger_scan_is_predicted_to_take_more():
    peaks = [
        peak(shape).peak_bytes for shape in ((96, 128, 128), (300, 512, 512), (768, 1024, 1024))
    ]
    assert BASE < peaks[0] < peaks[1] < peaks[2]
    # Labels alone take a byte for each voxel of the scan.
    assert peaks[2] > BASE + 768 * 1024 * 1024


def test_a_tight_ceiling_keeps_the_scan_in_16_bits():
    shape = (768, 1024, 1024)
    free = peak(shape)
    assert not free.half
    tight = peak(shape, max_bytes=free.peak_bytes)
    assert tight.half
    assert tight.peak_bytes < free.peak_bytes


def test_a_ceiling_that_cannot_be_kept_is_refused_with_one_that_can():
    shape = (300, 512, 512)
    with pytest.raises(MemoryLimitError, match=r"--max-ram (\d+)MB") as caught:
        peak(shape, max_bytes=BASE)
    smallest = int(str(caught.value).partition("--max-ram ")[2].partition("MB")[0])
    assert peak(shape, max_bytes=smallest * MB).peak_bytes <= smallest * MB
    with pytest.raises(MemoryLimitError):
        peak(shape, max_bytes=(smallest - 1) * MB)


def test_repairs_of_the_whole_scan_are_counted():
    opened = dataclasses.replace(SPEC, postprocess=(Opening(radius_px=1.0),))
    assert peak((300, 512, 512), opened).peak_bytes > peak((300, 512, 512)).peak_bytes


def test_a_cine_of_frames_is_counted_by_its_labels():
    def take(frames):
        return plan_frames(unread((frames, 600, 800)), base_bytes=BASE).peak_bytes

    assert take(1001) - take(1) == 1000 * 600 * 800
    with pytest.raises(MemoryLimitError):
        plan_frames(unread((4000, 1024, 1024)), base_bytes=BASE, max_bytes=BASE + 2**30)


def test_what_is_foreseen_is_what_is_prepared():
    array = np.random.default_rng(0).integers(0, 99, (9, 30, 41)).astype(np.int16)
    scan = make_scan(array, make_geometry(array.shape, (3, 0.8, 1.2), (0, 2, 1), (1, -1, 1)))
    assert plan_transform(scan, SPEC) == prepare_volume(scan, SPEC).transform


def test_16_bits_find_what_32_find():
    rng = np.random.default_rng(1)
    array = rng.integers(0, 1000, (12, 30, 34)).astype(np.int16)
    scan = make_scan(array, make_geometry(array.shape, (1, 1, 1), (0, 1, 2), (1, 1, 1)))
    spec = make_spec(Orient(), ScalePercentile())
    whole, half = (prepare_volume(scan, spec, half=half) for half in (False, True))
    assert half.array.nbytes == whole.array.nbytes // 2
    np.testing.assert_allclose(half.tensor, whole.tensor, atol=2**-11)


def test_a_segmenter_keeps_to_its_ceiling_or_refuses():
    array = np.zeros((10, 20, 24), np.int16)
    array[2:5, 6:12, 7:15] = 300
    scan = make_scan(array)
    segmenter = Segmenter(make_spec(ScalePercentile()), Threshold())
    found = segmenter.segment_sequence(scan, max_bytes=2**40)
    assert found.memory is not None
    assert found.memory.peak_bytes > 0
    np.testing.assert_array_equal(found.labels.array, array > 0)
    with pytest.raises(MemoryLimitError):
        segmenter.segment_sequence(scan, max_bytes=1)
    assert segmenter.segment_sequence(scan).memory is None
