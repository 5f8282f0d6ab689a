import numpy as np
import pytest

from bedside.pipeline.placement import Placement
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
    placement = Placement((20, 30), Box(0, 0, 20, 30))
    assert (placement.project(labels, (20, 30)) == labels).all()
    assert (placement.restore(to_logits(labels, 2), stride=1) == labels).all()


@pytest.mark.parametrize("stride", [1, 2, 4])
@pytest.mark.parametrize("scale", [(1.0, 1.0), (1.37, 1.11), (0.62, 0.8), (2.5, 2.0)])
def test_a_disc_comes_back_to_its_place_through_the_networks_grid(scale, stride):
    box = Box(11, 23, 91, 123)
    labels = make_disc(110, 160, (51.3, 70.8), 22)
    size = (round(80 * scale[0]) + 6, round(100 * scale[1]) + 10)
    placement = Placement((110, 160), box, scale, (3, 5))
    tensor = placement.project(labels, size)
    height, width = (side // stride * stride for side in size)
    coarse = to_logits(tensor[:height, :width], 2)
    coarse = coarse.reshape(2, height // stride, stride, width // stride, stride).mean((2, 4))
    restored = placement.restore(coarse, stride=stride)
    # Nearest neighbour to the tensor's grid moves a border by up to half a tensor pixel; over
    # a disc's whole border that averages out to an eighth of a logit at most.
    assert np.abs(centroid(restored) - centroid(labels)).max() < stride / min(scale) / 8
    assert restored.sum() == pytest.approx(labels.sum(), rel=0.05)


def test_outside_the_box_all_is_background():
    placement = Placement((10, 10), Box(2, 3, 8, 9))
    restored = placement.restore(np.stack([np.zeros((6, 6)), np.ones((6, 6))]), stride=1)
    assert restored[2:8, 3:9].all()
    restored[2:8, 3:9] = 0
    assert not restored.any()


def test_logits_are_interpolated_before_they_are_compared():
    logits = np.zeros((2, 1, 2), np.float32)
    logits[1] = [[-1, 3]]
    placement = Placement((1, 8), Box(0, 0, 1, 8), (2.0, 1.0))
    # Logit centres lie at source columns 1.5 and 5.5; the line through -1 and 3 is zero at 2.5.
    assert placement.restore(logits, stride=4).tolist() == [[0, 0, 0, 1, 1, 1, 1, 1]]
