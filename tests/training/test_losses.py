import math

import pytest
import torch

from bedside.training.losses import segmentation_loss, soft_dice_loss


def test_soft_dice_of_even_odds_is_derived_by_hand():
    # Two classes at even odds: the overlap with one pixel of four is 0.5, the sizes are 2 and 1.
    truth = torch.tensor([[[1, 0], [0, 0]]])
    loss = soft_dice_loss(torch.zeros(1, 2, 2, 2), truth)
    assert float(loss) == pytest.approx(1 - (2 * 0.5 + 1) / (2 + 1 + 1))


def test_background_alone_costs_nothing_where_nothing_is_drawn():
    logits = torch.zeros(1, 2, 4, 4)
    logits[:, 0] = 50
    assert float(soft_dice_loss(logits, torch.zeros(1, 4, 4, dtype=torch.long))) < 1e-6


def test_weights_select_the_parts_and_coarse_logits_are_raised():
    truth = torch.zeros(1, 4, 4, dtype=torch.long)
    only_ce = segmentation_loss(torch.zeros(1, 3, 2, 2), truth, dice_weight=0, ce_weight=1)
    assert float(only_ce) == pytest.approx(math.log(3))


def test_volumes_cost_what_their_slices_cost():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 1, 8, 8, generator=generator)
    truth = torch.randint(0, 3, (2, 1, 8, 8), generator=generator)
    weights = {"dice_weight": 1.0, "ce_weight": 0.5}
    volume = segmentation_loss(logits, truth, **weights)
    plane = segmentation_loss(logits[:, :, 0], truth[:, 0], **weights)
    assert float(volume) == pytest.approx(float(plane))
