import math

import numpy as np
import pytest
import torch
from torch import nn

from bedside.training.example import Example
from bedside.training.validate import validate


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
    dice = validate(Threshold(), examples, num_classes=3, device=torch.device("cpu"))
    assert dice[0] == pytest.approx((2 / 3 + 0 + 1) / 3)
    assert math.isnan(dice[1])


def test_volumes_and_coarse_logits_are_scored_too():
    truth = np.zeros((4, 8, 6), np.uint8)
    truth[:2] = 1
    example = Example(truth[None].astype(np.float32), truth)
    coarse = nn.Sequential(nn.AvgPool3d(2), Threshold())
    assert validate(coarse, [example], num_classes=3, device=torch.device("cpu"))[0] > 0.95
