import numpy as np
import pytest

from bedside.errors import GeometryError
from bedside.pipeline.frames.transform import FrameTransform
from bedside.volume import Box


def make_disc(height, width, centre, radius):
    rows, columns = np.mgrid[:height, :width]
    return (np.hypot(rows - centre[0], columns - centre[1]) <= radius).astype(np.uint8)


def centroid(mask):
    return np.argwhere(mask).mean(axis=0)


def to_logits(labels, classes):
    return np.stack([(labels == value).astype(np.float32) for value in range(classes)])


def test_nothing_moves_where_nothing_is_scaled():
    labels = make_disc(20, 30, (7, 19), 5)
    whole = Box(0, 0, 20, 30)
    transform = FrameTransform((20, 30), whole, whole)
    assert (transform.project(labels, (20, 30)) == labels).all()
    assert (transform.restore(to_logits(labels, 2), stride=1) == labels).all()


@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("inner", [(80, 100), (108, 112), (48, 80), (200, 200)])
def test_a_disc_comes_back_to_its_place_through_the_networks_grid(inner, stride):
    labels = make_disc(110, 160, (51.3, 70.8), 22)
    shown = Box(4, 8, 4 + inner[0], 8 + inner[1])
    transform = FrameTransform((110, 160), Box(11, 23, 91, 123), shown)
    size = (inner[0] + 8, inner[1] + 16)
    tensor = transform.project(labels, size)
    coarse = to_logits(tensor, 2)
    shape = (2, size[0] // stride, stride, size[1] // stride, stride)
    restored = transform.restore(coarse.reshape(shape).mean((2, 4)), stride=stride)
    # Nearest neighbour to the tensor's grid moves a border by up to half a tensor pixel; over
    # a disc's whole border that averages out to an eighth of a logit at most.
    finest = min(inner[0] / 80, inner[1] / 100)
    assert np.abs(centroid(restored) - centroid(labels)).max() < stride / finest / 8
    assert int(restored.sum()) == pytest.approx(int(labels.sum()), rel=0.05)


def test_outside_the_box_all_is_background():
    transform = FrameTransform((10, 10), Box(2, 3, 8, 9), Box(0, 0, 6, 6))
    logits = np.stack([np.zeros((6, 6)), np.ones((6, 6))]).astype(np.float32)
    restored = transform.restore(logits, stride=1)
    assert restored[2:8, 3:9].all()
    restored[2:8, 3:9] = 0
    assert not restored.any()


def test_logits_are_interpolated_before_they_are_compared():
    logits = np.zeros((2, 1, 2), np.float32)
    logits[1] = [[-1, 3]]
    transform = FrameTransform((1, 8), Box(0, 0, 1, 8), Box(0, 0, 4, 8))
    # Logit centres lie at source columns 1.5 and 5.5; the line through -1 and 3 is zero at 2.5.
    assert transform.restore(logits, stride=4).tolist() == [[0, 0, 0, 1, 1, 1, 1, 1]]


def test_a_placement_that_cuts_a_logit_is_refused():
    transform = FrameTransform((8, 8), Box(0, 0, 8, 8), Box(0, 0, 7, 8))
    with pytest.raises(GeometryError, match="stride of 2"):
        transform.restore(np.zeros((2, 4, 4), np.float32), stride=2)
