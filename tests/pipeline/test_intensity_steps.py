"""Steps on tone: ranges, that they move nothing, and that they are planned once a sequence."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedside.errors import FormatError, SpecError
from bedside.pipeline.frames.plan import plan_preprocess
from bedside.pipeline.volumes.prepare import prepare_volume
from bedside.spec import (
    CT_WINDOWS,
    Clahe,
    CropBody,
    CropFan,
    DeploymentSpec,
    FanGain,
    Fit,
    Grey,
    InputSpec,
    LevelSpec,
    ModelSpec,
    NonLocalMeans,
    Orient,
    Resample,
    ScaleMedian,
    ScalePercentile,
    ScaleRange,
    WindowLevel,
    WindowPreset,
    ZScore,
)
from bedside.volume import Box
from makers import LABELS, make_fan
from volume_makers import make_geometry, make_scan

TONES = [
    ScalePercentile(),
    ScaleMedian(),
    ScaleRange(),
    ScaleRange(low=-1, source="nominal"),
    ZScore(),
    ZScore(nonzero=True),
    Clahe(tiles=2),
    NonLocalMeans(search_px=5, patch_px=3),
    FanGain(),
    WindowLevel(level=100, width=150),
    WindowPreset(preset="abdomen"),
]
SCAN_TONES = [step for step in TONES if 3 in step.AXES]


def by_name(step):
    return step.step


def plan(steps, frames, *, size_px=(48, 64), channels=1):
    spec = InputSpec(modality="US", channels=channels, size_px=size_px)
    return plan_preprocess(steps, frames, input_spec=spec)


def scan_spec(*steps):
    level = LevelSpec(block="conv", channels=1, depth=1)
    model = ModelSpec("hybrid", 1, 2, levels=(level,), logit_stride=1, spatial_dims=3)
    spec = InputSpec(modality="MR", channels=1, size_px=(1, 1, 1))
    return DeploymentSpec("scan", "1", "none", spec, LABELS[:1], steps, model)


def prepare(array, *steps, geometry=None):
    return prepare_volume(make_scan(array, geometry, (2.0, 1.0, 1.0)), scan_spec(*steps))


@pytest.mark.parametrize("step", TONES, ids=by_name)
def test_a_step_on_tone_moves_no_pixel_of_a_frame(step):
    frames = [frame[None] for frame in make_fan()]
    before = [frame.copy() for frame in frames]
    planned = plan((step,), frames)
    assert planned.transform.box == planned.transform.inner == Box(0, 0, 48, 64)
    tensor = planned.apply(frames[0])
    assert tensor.shape == (1, 1, 48, 64)
    assert tensor.dtype == np.float32
    assert np.isfinite(tensor).all()
    assert all((a == b).all() for a, b in zip(frames, before, strict=True))
    # Bright is still bright, where it was: the sector against what is around it.
    fan = frames[0][0] > 85
    assert tensor[0, 0][fan].mean() > tensor[0, 0][frames[0][0] == 0].mean()


@pytest.mark.parametrize("step", TONES, ids=by_name)
def test_a_frame_looks_alike_whatever_frame_is_shown_before_it(step):
    frames = [frame[None] for frame in make_fan()]
    planned = plan((step,), frames)
    first = planned.apply(frames[0])
    planned.apply(frames[1] // 3)
    assert (planned.apply(frames[0]) == first).all()


@pytest.mark.parametrize("step", SCAN_TONES, ids=by_name)
def test_a_step_on_tone_moves_no_voxel_of_a_scan(step):
    rng = np.random.default_rng(0)
    array = rng.integers(0, 300, (6, 12, 10)).astype(np.int16)
    array[2:4, 3:6, 5:9] += 900
    # What is nominal is a part of 1.
    nominal = isinstance(step, ScaleRange) and step.source == "nominal"
    values = array.astype(np.float32) / 1200 if nominal else array
    before = values.copy()
    prepared = prepare(values, step)
    assert (values == before).all()
    assert prepared.tensor.shape == (1, *array.shape)
    labels = (array > 600).astype(np.uint8)
    assert (prepared.transform.project(labels) == labels).all()
    assert prepared.tensor[0][array > 600].mean() > prepared.tensor[0][array < 300].mean()


@pytest.mark.parametrize(
    ("step", "low", "high"),
    [
        (ScaleRange(), 0, 1),
        (ScaleRange(low=-1), -1, 1),
        (ScalePercentile(), 0, 1),
        (ScaleMedian(), 0, 1),
        (WindowLevel(level=60, width=50), 0, 1),
        (FanGain(), 0, 1),
    ],
    ids=["[0, 1]", "[-1, 1]", "percentile", "median", "window", "gain"],
)
@given(seed=st.integers(0, 100), top=st.integers(70, 255))
def test_a_step_keeps_to_its_range(step, low, high, seed, top):
    rng = np.random.default_rng(seed)
    frames = [rng.integers(0, top, (1, 16, 20)).astype(np.uint8) for _ in range(2)]
    tensor = plan((step,), frames).apply(rng.integers(0, 256, (1, 16, 20)).astype(np.uint8))
    assert low <= tensor.min()
    assert tensor.max() <= high
    if 3 in step.AXES:
        tensor = prepare(np.concatenate(frames), step).tensor
        assert low <= tensor.min()
        assert tensor.max() <= high


@pytest.mark.parametrize("fat", [90, 250])
def test_tissue_has_one_brightness_however_bright_fat_and_air_are(fat):
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 5, (3, 40, 40)).astype(np.uint8)
    frame[:, 10:30, 10:30] = fat
    frame[0, 12:28, 12:28] = 80
    frame[1, 12:28, 12:28] = 60
    frame[2] = 0
    tensor = plan((ScaleMedian(median=0.3),), [frame], size_px=(40, 40), channels=3).apply(frame)[0]
    np.testing.assert_allclose(tensor[:2, 12:28, 12:28], 0.3, atol=1e-6)
    assert tensor[0, 10, 10] == pytest.approx(min(1, 0.3 * fat / 80))
    assert not tensor[2].any()


@pytest.mark.parametrize("change", [{"median": 0.0}, {"median": 1.0}, {"floor": 1.0}])
def test_a_median_out_of_range_is_refused(change):
    with pytest.raises(SpecError, match="median"):
        ScaleMedian(**change)


def test_a_range_is_that_of_the_sequence_and_nominal_is_that_of_eight_bits():
    dark, light = np.full((1, 4, 4), 50, np.uint8), np.full((1, 4, 4), 150, np.uint8)
    observed = plan((ScaleRange(low=-1),), [dark, light])
    assert (observed.apply(dark) == -1).all()
    assert np.allclose(observed.apply(light), 1)
    nominal = plan((ScaleRange(low=-1, source="nominal"),), [dark, light])
    assert np.allclose(nominal.apply(dark), 2 * 50 / 255 - 1)


@pytest.mark.parametrize("nonzero", [False, True])
def test_z_scores_have_mean_0_and_deviation_1_over_what_counts(nonzero):
    rng = np.random.default_rng(0)
    array = rng.normal(500, 80, (4, 16, 16)).astype(np.int16)
    array[:, :8] = 0
    frame = (array[:1] // 4).astype(np.uint8)
    for tensor, stored in (
        (plan((ZScore(nonzero=nonzero),), [frame]).apply(frame)[0], frame),
        (prepare(array, ZScore(nonzero=nonzero)).tensor[0], array),
    ):
        counted = tensor[stored != 0] if nonzero else tensor
        assert counted.mean() == pytest.approx(0, abs=1e-4)
        assert counted.std() == pytest.approx(1, abs=1e-4)
        if nonzero:
            assert (tensor[stored == 0] == 0).all()


def test_a_window_reads_hounsfield_units_of_a_frame_that_eight_bits_would_cut():
    frame = np.int16([[[-1000, -160, 40, 240, 3000]]])
    tensor = plan((WindowPreset(preset="abdomen"),), [frame]).apply(frame)
    np.testing.assert_allclose(tensor[0, 0, 0], [0, 0, 0.5, 1, 1])
    same = prepare(frame, WindowPreset(preset="abdomen")).tensor
    np.testing.assert_allclose(same[0, 0, 0], tensor[0, 0, 0])
    broken = np.where(np.eye(64) > 0, np.nan, 40.0)[None]
    with pytest.raises(FormatError, match="NaN or infinite"):
        plan((WindowPreset(preset="abdomen"),), [broken])


@pytest.mark.parametrize("preset", CT_WINDOWS)
def test_a_preset_is_its_window_by_numbers(preset):
    level, width = CT_WINDOWS[preset]
    frame = np.linspace(-1500, 2500, 400).astype(np.int16).reshape(1, 20, 20)
    named = plan((WindowPreset(preset=preset),), [frame]).apply(frame)
    by_numbers = plan((WindowLevel(level=level, width=width),), [frame]).apply(frame)
    assert (named == by_numbers).all()


def test_steps_after_a_window_take_what_it_gives():
    rng = np.random.default_rng(0)
    frame = rng.integers(-200, 300, (1, 40, 50)).astype(np.int16)
    steps = (WindowPreset(preset="abdomen"), CropBody(threshold=0.1), Fit(), Clahe(), ZScore())
    tensor = plan(steps, [frame], size_px=(32, 32)).apply(frame)
    assert tensor.shape == (1, 1, 32, 32)
    assert tensor.std() == pytest.approx(1, abs=1e-3)


def test_gain_brings_the_sector_to_its_target_however_much_black_is_around_it():
    frames = make_fan()
    planned = []
    for border in (0, 40):
        padded = [np.pad(frame, border)[None] for frame in frames]
        tensor = plan((FanGain(target=0.3, trim=0),), padded).apply(padded[0])[0, 0]
        planned.append(tensor[border : border + 48, border : border + 64])
    assert (planned[0] == planned[1]).all()
    lit = frames.max(axis=0) > 4
    assert planned[0][lit].mean() == pytest.approx(0.3, abs=0.01)


def test_gain_evens_out_recordings_without_saturating_any():
    frames = make_fan()
    shown = [
        plan((FanGain(),), [(frame // divisor)[None] for frame in frames]).apply(
            (frames[0] // divisor)[None]
        )
        for divisor in (1, 3)
    ]
    lit = frames.max(axis=0) > 12
    bright, dim = (tensor[0, 0][lit].mean() for tensor in shown)
    assert dim == pytest.approx(bright, abs=0.02)
    assert max(tensor.max() for tensor in shown) < 1
    black = np.zeros((1, 8, 8), np.uint8)
    dark = plan((FanGain(),), [black])
    assert "the images looked at are black." in dark.warnings
    assert not dark.apply(black).any()


def test_contrast_that_is_faint_in_part_of_a_frame_is_raised():
    rng = np.random.default_rng(0)
    array = rng.normal(0.5, 0.01, (1, 32, 32))
    array[:, :, 16:] = rng.uniform(0, 1, (1, 32, 16))
    array[:, 8:12, 4:8] += 0.05
    frame = (255 * array).clip(0, 255).astype(np.uint8)
    plain, raised = (
        plan(steps, [frame], size_px=(32, 32)).apply(frame)[0, 0]
        for steps in (
            (ScaleRange(source="nominal"),),
            (Clahe(tiles=4), ScaleRange(source="nominal")),
        )
    )
    contrasts = [t[8:12, 4:8].mean() - t[20:24, 4:8].mean() for t in (plain, raised)]
    assert contrasts[1] > 1.5 * contrasts[0]


def test_non_local_means_takes_noise_and_keeps_edges():
    rng = np.random.default_rng(0)
    clean = np.where(np.indices((5, 40, 40))[2] < 20, 60, 180)
    noisy = np.clip(clean + rng.normal(0, 8, clean.shape), 0, 255).astype(np.uint8)
    step = NonLocalMeans(strength=0.06, search_px=9)
    smooth = plan((step,), [noisy[:1]], size_px=(40, 40)).apply(noisy[:1])[0]
    target = clean[:1]
    assert smooth.std(axis=1).mean() < 0.5 * noisy.std(axis=1).mean()
    assert np.abs(smooth - target).mean() < 3


@pytest.mark.parametrize("threshold", [None, -300.0])
def test_a_body_is_cut_out_of_a_scan_and_its_labels_go_back_to_their_place(threshold):
    array = np.full((9, 40, 50), -1000, np.int16)
    array[:, 8:30, 11:37] = 40
    array[3:6, 15:20, 20:26] = 300
    array[:, 36, 5:45] = 200
    geometry = make_geometry(array.shape, (2, 1, 1), (1, 2, 0), (-1, 1, -1))
    body = CropBody(threshold=threshold, margin=0.05)
    steps = (body, Orient(), Resample(spacing_mm=(1, 1, 1)), WindowLevel(level=100, width=500))
    prepared = prepare(array, *steps, geometry=geometry)
    assert prepared.transform.body[1:] == (slice(7, 31), slice(10, 38))
    assert prepared.tensor[0].size < 0.7 * array.size * 2
    labels = (array == 300).astype(np.uint8)
    seen = prepared.transform.project(labels)
    assert prepared.tensor[0][seen == 1].mean() > 0.8
    logits = np.stack([np.full(seen.shape, 0.5), seen]).astype(np.float32)
    assert (prepared.transform.restore([logits], stride=1) == labels).all()


def test_a_scan_without_a_body_is_taken_whole_and_that_is_said():
    prepared = prepare(np.full((3, 8, 8), -1000, np.int16), CropBody())
    assert prepared.transform.body is None
    assert "no body was found" in prepared.warnings[0]


def test_a_body_is_cut_out_of_a_frame_and_its_labels_go_back_to_their_place():
    frame = np.zeros((1, 60, 80), np.uint8)
    frame[0, 10:40, 20:60] = 120
    frame[0, 20:28, 30:44] = 250
    frame[0, 55, :] = 200
    planned = plan((Grey(), CropBody(margin=0), ScaleRange(source="nominal")), [frame])
    assert planned.transform.box == Box(10, 20, 40, 60)
    tensor = planned.apply(frame)
    logits = np.stack([np.full_like(tensor[0, 0], 0.9), tensor[0, 0]])
    assert (planned.transform.restore(logits, stride=1) == (frame[0] == 250)).all()


def test_gain_after_the_sector_is_found_is_the_usual_way():
    frames = [frame[None] for frame in make_fan(8, 96, 128)]
    steps = (Grey(), CropFan(), Fit(stretch=1.25), FanGain())
    tensor = plan(steps, frames, size_px=(64, 64)).apply(frames[0])
    assert tensor.min() >= 0
    assert 0.15 < tensor[tensor > 0.02].mean() < 0.35
