import numpy as np
import pytest

from bedside.spec import AugmentSpec
from bedside.training.augment import Example, augment

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


def make_example():
    truth = np.zeros((64, 64), np.uint8)
    truth[20:40, 10:30] = 1
    return Example(truth.astype(np.float32), truth)


def test_with_everything_off_nothing_changes():
    example = make_example()
    varied = augment(example, STILL, np.random.default_rng(0))
    assert (varied.truth == example.truth).all()
    assert np.allclose(varied.image, example.image)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("elastic_px", [0.0, 3.0])
def test_image_and_truth_move_together(seed, elastic_px):
    example = make_example()
    spec = AugmentSpec(
        flip=0.5,
        elastic_px=elastic_px,
        gamma_log2=(0, 0),
        gain=(1, 1),
        depth_gain=0,
        speckle=0,
        blur_px=0,
        fan_cut=0,
        compress=0,
    )
    varied = augment(example, spec, np.random.default_rng(seed))
    assert (varied.truth != example.truth).any()
    # Linear against nearest: they may differ by half a pixel along the border.
    disagreement = ((varied.image > 0.5) != (varied.truth == 1)).sum()
    assert disagreement < 0.05 * varied.truth.sum()


def test_the_same_draw_is_the_same_image_and_the_example_is_left_alone():
    example = make_example()
    before = example.image.copy()
    one, two = (augment(example, AugmentSpec(), np.random.default_rng(5)) for _ in range(2))
    other = augment(example, AugmentSpec(), np.random.default_rng(6))
    assert (one.image == two.image).all()
    assert (one.image != other.image).any()
    assert (example.image == before).all()
    assert one.image.min() >= 0
    assert one.image.max() <= 1


def test_a_mirror_swaps_left_and_right():
    example = make_example()
    mirrored = augment(
        example, AugmentSpec(**{**vars(STILL), "flip": 1.0}), np.random.default_rng(0)
    )
    assert (mirrored.truth == example.truth[:, ::-1]).all()
