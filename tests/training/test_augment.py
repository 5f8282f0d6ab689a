import dataclasses

import cv2
import numpy as np
import pytest

from bedside.errors import SpecError
from bedside.spec import AugmentSpec, ScaleRange, ZScore
from bedside.training.augment import Example, augment
from bedside.training.intensity_range import find_values
from bedside.training.random_draws import BENDS, smooth_basis

STILL = AugmentSpec(
    rotate_deg=0,
    log2_scale=(0, 0),
    log2_aspect=0,
    shift=0,
    gamma_log2=(0, 0),
    gain=(1, 1),
    depth_gain=0,
    speckle=0,
    blur_px=0,
    fan_cut=0,
    compress=0,
)


SIZES = {2: (64, 64), 3: (24, 32, 20)}


def make_example(spatial_dims=2, channels=1):
    """A bright box, off the middle along every axis."""
    truth = np.zeros(SIZES[spatial_dims], np.uint8)
    truth[tuple(slice(size // 4, 5 * size // 8) for size in truth.shape)] = 1
    return Example(np.stack([truth.astype(np.float32)] * channels), truth)


def move_only(**changes):
    return dataclasses.replace(
        AugmentSpec(
            gamma_log2=(0, 0),
            gain=(1, 1),
            depth_gain=0,
            speckle=0,
            blur_px=0,
            fan_cut=0,
            compress=0,
        ),
        **changes,
    )


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_with_everything_off_nothing_changes(spatial_dims, channels):
    example = make_example(spatial_dims, channels)
    varied = augment(example, STILL, np.random.default_rng(0))
    assert (varied.truth == example.truth).all()
    assert np.allclose(varied.image, example.image, atol=1e-5)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("elastic_px", [0.0, 2.0])
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_image_and_truth_move_together(spatial_dims, elastic_px, seed):
    spec = move_only(flip=0.5, elastic_px=elastic_px)
    varied = augment(make_example(spatial_dims, channels=2), spec, np.random.default_rng(seed))
    assert (varied.truth != make_example(spatial_dims).truth).any()
    # Linear against nearest: they may differ by half a pixel along the border.
    disagreement = ((varied.image[0] > 0.5) != (varied.truth == 1)).sum()
    assert disagreement < {2: 0.05, 3: 0.1}[spatial_dims] * varied.truth.sum()
    assert (varied.image[0] == varied.image[1]).all()


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_the_same_draw_is_the_same_image_and_the_example_is_left_alone(spatial_dims, channels):
    example = make_example(spatial_dims, channels)
    before = example.image.copy()
    spec = AugmentSpec(
        elastic_px=2, noise=0.1, low_resolution=2, flip_axes=(0.5,) * spatial_dims, compress=1
    )
    for seed in range(5):
        one, two = (augment(example, spec, np.random.default_rng(seed)) for _ in range(2))
        other = augment(example, spec, np.random.default_rng(seed + 100))
        assert (one.image == two.image).all()
        assert (one.truth == two.truth).all()
        assert (one.image != other.image).any()
        assert (example.image == before).all()
        assert one.image.dtype == np.float32
        assert one.truth.dtype == np.uint8
        assert one.image.shape == example.image.shape
        assert one.image.min() >= 0
        assert one.image.max() <= 1


@pytest.mark.parametrize("steps", [(ScaleRange(low=-1),), (ZScore(),), (ZScore(nonzero=True),)])
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_an_image_of_other_values_is_varied_as_one_in_0_and_1_is(spatial_dims, steps):
    """An affine map before and its inverse after leave the same picture."""
    truth = make_example(spatial_dims).truth
    unit = np.random.default_rng(0).uniform(0, 1, (2, *truth.shape)).astype(np.float32)
    unit.reshape(2, -1)[:, :2] = 0, 1
    spec = dataclasses.replace(STILL, gamma_log2=(0.3, 0.6), gain=(0.8, 1.2), noise=0.1)
    slope, shift = (2.0, -1.0) if isinstance(steps[0], ScaleRange) else (3.0, -1.5)
    values = find_values(steps, spatial_dims=spatial_dims)
    for seed in range(4):
        plain = augment(Example(unit, truth), spec, np.random.default_rng(seed)).image
        example = Example(slope * unit + shift, truth)
        varied = augment(example, spec, np.random.default_rng(seed), values=values).image
        np.testing.assert_allclose((varied - shift) / slope, plain, atol=1e-5)
        assert (plain != unit).any()


@pytest.mark.parametrize(
    ("steps", "spatial_dims", "outside"),
    [
        ((ScaleRange(low=-1),), 2, -1.0),
        ((ScaleRange(low=-1),), 3, 0.0),
        ((ZScore(nonzero=True),), 2, 0.0),
        ((ZScore(),), 3, 0.0),
        ((ZScore(),), 2, -1.0),
    ],
)
def test_what_is_moved_in_is_what_lies_beyond_an_image_in_use(steps, spatial_dims, outside):
    truth = make_example(spatial_dims).truth
    example = Example(np.where(truth, 1, -1)[None].astype(np.float32), truth)
    spec = dataclasses.replace(STILL, log2_scale=(-1, -1), gain=(0.9, 0.9))
    values = find_values(steps, spatial_dims=spatial_dims)
    varied = augment(example, spec, np.random.default_rng(0), values=values).image
    corner = varied[(0,) * varied.ndim]
    assert corner == outside
    assert -1 - 1e-6 < varied.min() < 0 < varied.max() < 1


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_a_mirror_swaps_left_and_right(spatial_dims):
    example = make_example(spatial_dims)
    spec = dataclasses.replace(STILL, flip=1.0)
    mirrored = augment(example, spec, np.random.default_rng(0))
    assert (mirrored.truth == example.truth[..., ::-1]).all()


@pytest.mark.parametrize(("spatial_dims", "axis"), [(2, 0), (2, 1), (3, 0), (3, 1), (3, 2)])
def test_each_axis_is_mirrored_by_its_own_chance(spatial_dims, axis):
    example = make_example(spatial_dims)
    chances = tuple(float(axis == other) for other in range(spatial_dims))
    spec = dataclasses.replace(STILL, flip_axes=chances)
    mirrored = augment(example, spec, np.random.default_rng(0))
    assert (mirrored.truth == np.flip(example.truth, axis)).all()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_volume_turned_about_one_axis_keeps_its_place_along_it(axis):
    example = make_example(3)
    spec = dataclasses.replace(
        STILL, rotate_axes_deg=tuple(30.0 * (axis == other) for other in range(3))
    )
    others = tuple(other for other in range(3) if other != axis)
    turned = [augment(example, spec, np.random.default_rng(seed)).truth for seed in range(4)]
    for truth in turned:
        assert (truth.any(axis=others) == example.truth.any(axis=others)).all()
    assert any((truth != example.truth).any() for truth in turned)


def test_colour_survives_compression():
    image = np.zeros((3, 32, 32), np.float32)
    image[0] = 0.8
    spec = dataclasses.replace(STILL, compress=1.0)
    varied = augment(Example(image, np.zeros((32, 32), np.uint8)), spec, np.random.default_rng(0))
    assert np.abs(varied.image - image).max() < 0.05


def test_chances_for_another_number_of_axes_are_refused():
    with pytest.raises(SpecError, match=r"flip_axes has 3 entries; expected one for 2 axes"):
        augment(
            make_example(2),
            dataclasses.replace(STILL, flip_axes=(0, 0, 0)),
            np.random.default_rng(0),
        )
    with pytest.raises(SpecError, match="rotate_axes_deg has 1"):
        augment(
            make_example(3),
            dataclasses.replace(STILL, rotate_axes_deg=(5,)),
            np.random.default_rng(0),
        )


def test_smooth_noise_bends_as_the_interpolation_of_opencv_does():
    coarse = np.random.default_rng(0).standard_normal((BENDS, BENDS), dtype=np.float32)
    expected = cv2.resize(coarse, (50, 40), interpolation=cv2.INTER_CUBIC)
    assert np.allclose(smooth_basis(40) @ coarse @ smooth_basis(50).T, expected, atol=1e-5)


def test_the_brightness_of_each_structure_is_shifted_by_itself():
    truth = np.zeros((48, 48), np.uint8)
    truth[8:20, 8:40], truth[28:40, 8:40] = 1, 3
    image = np.full((3, 48, 48), 0.5, np.float32)
    spec = dataclasses.replace(STILL, structure_tone=0.2)
    seen = [
        augment(Example(image, truth), spec, np.random.default_rng(seed)).image
        for seed in range(20)
    ]
    first = np.array([one[:, 14, 24] for one in seen]) - 0.5
    second = np.array([one[:, 34, 24] for one in seen]) - 0.5
    assert (first == first[:, :1]).all()
    assert np.abs(first).max() <= 0.2 + 1e-6
    assert np.ptp(first) > 0.2
    assert np.ptp(second) > 0.2
    assert abs(np.corrcoef(first[:, 0], second[:, 0])[0, 1]) < 0.6
    assert all(np.allclose(one[:, truth == 0][:, 0], 0.5) for one in seen)


def test_a_cavity_is_dark_lies_in_the_structure_and_stays_part_of_it():
    truth = np.zeros((48, 48), np.uint8)
    truth[12:36, 12:36] = 1
    image = np.where(truth, 0.8, 0.4).astype(np.float32)[None].repeat(2, axis=0)
    spec = dataclasses.replace(STILL, cavity=1.0)
    for seed in range(10):
        varied = augment(Example(image, truth), spec, np.random.default_rng(seed))
        assert (varied.truth == truth).all()
        far = cv2.dilate(truth, np.ones((9, 9), np.uint8)) == 0
        np.testing.assert_allclose(varied.image[:, far], 0.4, atol=1e-6)
        dark = varied.image[:, truth > 0].min(axis=1)
        assert (dark < 0.6 * 0.8 + 0.01).all()
        assert dark[0] != dark[1]
        assert ((varied.image[0] < 0.7) & (truth > 0)).sum() > 20
    thin = np.zeros_like(truth)
    thin[20:24] = 1
    left = augment(Example(image, thin), spec, np.random.default_rng(0)).image
    np.testing.assert_allclose(left, image, atol=1e-6)


@pytest.mark.parametrize("apart", [False, True])
def test_the_tone_of_channels_is_drawn_together_or_apart(apart):
    truth = make_example(2).truth
    image = np.random.default_rng(0).uniform(0.1, 0.6, (1, *truth.shape)).astype(np.float32)
    example = Example(np.concatenate([image, image]), truth)
    spec = dataclasses.replace(STILL, gamma_log2=(-0.5, 0.5), gain=(0.7, 1.2), channel_tone=apart)
    varied = augment(example, spec, np.random.default_rng(0)).image
    assert (varied[0] != example.image[0]).any()
    assert (varied[0] != varied[1]).any() == apart


@pytest.mark.parametrize(
    ("steps", "missing"), [((), 0.0), ((ScaleRange(low=-1),), -1.0), ((ZScore(),), 0.0)]
)
@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_channels_are_left_out_as_zeros_would_be_and_one_stays(spatial_dims, steps, missing):
    example = make_example(spatial_dims, channels=3)
    example.image[:] += 0.5
    values = find_values(steps, spatial_dims=spatial_dims)
    spec = dataclasses.replace(STILL, channel_dropout=0.5)
    counts = []
    for seed in range(40):
        varied = augment(example, spec, np.random.default_rng(seed), values=values)
        left_out = [bool((channel == missing).all()) for channel in varied.image]
        counts.append(sum(left_out))
    assert set(counts) == {0, 1, 2}
    # Half of three, less those draws in which the last one has to stay.
    assert 0.9 < np.mean(counts) < 1.8


def test_each_channel_may_have_its_own_chance_to_be_left_out():
    example = make_example(2, channels=3)
    example.image[:] += 0.5
    spec = dataclasses.replace(STILL, channel_dropout=(0.0, 0.8, 0.2))
    seen = [augment(example, spec, np.random.default_rng(seed)).image for seed in range(60)]
    shares = np.mean([(image == 0).all(axis=(1, 2)) for image in seen], axis=0)
    assert shares[0] == 0
    assert shares[1] > 2 * shares[2] > 0
    wrong = dataclasses.replace(STILL, channel_dropout=(0.1, 0.1))
    with pytest.raises(SpecError, match=r"2 entries.*3 channels"):
        augment(example, wrong, np.random.default_rng(0))
