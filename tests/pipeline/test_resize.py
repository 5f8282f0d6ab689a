import numpy as np
import pytest

from bedside.pipeline.resize import nearest_indices, resize_linear, sample_weights


@pytest.mark.parametrize("shape", [(5, 7, 3), (10, 14, 6), (3, 4, 2), (1, 1, 1)])
def test_a_constant_stays_constant(shape):
    found = resize_linear(np.full((2, 5, 7, 3), 4.0), shape)
    assert found.shape == (2, *shape)
    np.testing.assert_allclose(found, 4.0, rtol=1e-6)


@pytest.mark.parametrize("size", [8, 17, 40, 61])
def test_a_ramp_keeps_its_place_edge_to_edge(size):
    old = 40
    ramp = (np.arange(old) + 0.5) / old
    found = resize_linear(ramp, (size,))
    expected = (np.arange(size) + 0.5) / size
    inner = slice(2, -2)
    np.testing.assert_allclose(found[inner], expected[inner], atol=2e-3)


def test_enlarging_agrees_with_opencv():
    import cv2

    image = np.random.default_rng(0).random((9, 13), dtype=np.float32)
    expected = cv2.resize(image, (31, 20), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(resize_linear(image, (20, 31)), expected, atol=1e-5)


def test_shrinking_averages_what_it_leaves_out():
    stripes = np.tile(np.float32([0, 1]), 32)
    np.testing.assert_allclose(resize_linear(stripes, (16,))[1:-1], 0.5, atol=0.01)


def test_positions_outside_read_the_border():
    found = sample_weights(np.array([-5.0, 0.5, 9.0]), 3) @ np.float32([1, 2, 3])
    np.testing.assert_allclose(found, [1, 1.5, 3])


def test_nearest_takes_each_old_element_in_order():
    assert nearest_indices(3, 6).tolist() == [0, 0, 1, 1, 2, 2]
    assert nearest_indices(6, 3).tolist() == [1, 3, 5]
    assert nearest_indices(4, 4).tolist() == [0, 1, 2, 3]
