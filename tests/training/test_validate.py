import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn

from bedside.training.example import Example
from bedside.training.validate import validate
from models_for_tests import make_spec


class Threshold(nn.Module):
    """Draws structure 1 where the image passes 0.5, at full size."""

    def forward(self, x):
        one = torch.where(x > 0.5, 5.0, -5.0)
        return torch.cat([-one, one, torch.full_like(one, -9.0)], dim=1)


def make_example(drawn, truth):
    return Example(np.array([drawn], np.float32), np.array(truth, np.uint8))


def test_dice_is_derived_by_hand_over_images_of_several_sizes():
    examples = [
        make_example([[1, 1], [0, 0]], [[1, 0], [0, 0]]),  # 2 * 1 / (2 + 1)
        make_example([[0, 0], [0, 0]], [[1, 0], [0, 0]]),  # 0
        make_example([[0, 0], [0, 0]], [[0, 0], [0, 0]]),  # neither has it: left out
        make_example([[1, 1, 1]], [[1, 1, 1]]),  # 1
    ]
    dice = validate(Threshold(), examples, spec=make_spec(), device=torch.device("cpu"))
    assert dice[0] == pytest.approx((2 / 3 + 0 + 1) / 3)
    assert math.isnan(dice[1])


def make_scan_spec(size):
    spec = make_spec()
    return dataclasses.replace(
        spec,
        input=dataclasses.replace(spec.input, size_px=size),
        model=dataclasses.replace(spec.model, spatial_dims=3),
    )


class Windowed(nn.Module):
    """Coarse logits of nothing but windows of one size, which are counted."""

    def __init__(self, size):
        super().__init__()
        self.size, self.windows = size, 0
        self.network = nn.Sequential(nn.AvgPool3d(2), Threshold())

    def forward(self, x):
        assert tuple(x.shape[2:]) == self.size
        self.windows += 1
        return self.network(x)


@pytest.mark.parametrize(("shape", "windows"), [((4, 8, 6), 1), ((8, 12, 6), 6)])
def test_a_scan_is_covered_by_windows_as_in_use(shape, windows):
    truth = np.zeros(shape, np.uint8)
    truth[:2] = 1
    example = Example(truth[None].astype(np.float32), truth)
    network = Windowed((4, 8, 6))
    dice = validate(
        network, [example, example], spec=make_scan_spec((4, 8, 6)), device=torch.device("cpu")
    )
    assert dice[0] > 0.95
    assert network.windows == 2 * windows
