import math

import pytest
import torch
from torch.nn import functional

from bedside.training.losses import (
    find_outlines,
    mean_over,
    outline_loss,
    overlap_losses,
    resize_logits,
    sample_labels,
)


def plain_losses(logits, truth, smoothing):
    """The same losses, step by step, for torch to differentiate."""
    drawn = logits.softmax(dim=1)[:, 1:]
    true = functional.one_hot(truth, logits.shape[1]).movedim(-1, 1)[:, 1:]
    axes = (0, *range(2, logits.ndim))
    dice = (2 * (drawn * true).sum(axes) + 1) / (drawn.sum(axes) + true.sum(axes) + 1)
    entropy = functional.cross_entropy(logits, truth, label_smoothing=smoothing, reduction="none")
    return 1 - dice[true.sum(axes) > 0].mean(), entropy


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("labels", [4, 3], ids=["every label", "the last label is missing"])
@pytest.mark.parametrize("sizes", [(5, 6), (3, 4, 5)])
def test_losses_and_the_written_out_gradient_are_what_torch_makes_of_them(sizes, labels, smoothing):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 4, *sizes, generator=generator, dtype=torch.float64)
    truth = torch.randint(0, labels, (2, *sizes), generator=generator)
    weights = torch.rand(2, *sizes, generator=generator, dtype=torch.float64)
    results = []
    for losses in (plain_losses, lambda *args: overlap_losses(*args[:2], smoothing=args[2])):
        leaf = logits.clone().requires_grad_()
        dice, entropy = losses(leaf, truth, smoothing)
        (1.7 * dice + (entropy * weights).sum()).backward()
        results.append((dice.detach(), entropy.detach(), leaf.grad))
    for expected, found in zip(*results, strict=True):
        assert torch.allclose(found, expected, rtol=1e-12, atol=1e-14)


def test_soft_dice_of_even_odds_is_derived_by_hand():
    # Two classes at even odds: the overlap with one pixel of four is 0.5, the sizes are 2 and 1.
    truth = torch.tensor([[[1, 0], [0, 0]]])
    dice, entropy = overlap_losses(torch.zeros(1, 2, 2, 2), truth)
    assert float(dice) == pytest.approx(1 - (2 * 0.5 + 1) / (2 + 1 + 1))
    assert entropy.tolist() == [[[pytest.approx(math.log(2))] * 2] * 2]


def test_a_structure_that_no_image_of_the_batch_has_is_left_to_the_cross_entropy():
    logits = torch.zeros(1, 3, 4, 4, requires_grad=True)
    truth = torch.zeros(1, 4, 4, dtype=torch.long)
    dice, _ = overlap_losses(logits, truth)
    dice.backward()
    assert dice.detach() == 0
    assert not logits.grad.any()
    truth[:, :2] = 1
    # Of one structure: overlap 8 / 3, drawn 16 / 3, true 8.
    dice, _ = overlap_losses(logits, truth)
    assert float(dice.detach()) == pytest.approx(1 - (16 / 3 + 1) / (16 / 3 + 8 + 1))


def test_coarse_logits_are_raised_in_two_and_three_axes():
    assert resize_logits(torch.zeros(1, 3, 2, 2), torch.Size([4, 5])).shape == (1, 3, 4, 5)
    assert resize_logits(torch.zeros(1, 3, 2, 2, 2), torch.Size([4, 4, 3])).shape == (1, 3, 4, 4, 3)


def test_labels_are_taken_from_the_middles_of_coarse_cells():
    labels = torch.arange(8)[None, :, None].expand(1, 8, 3)
    assert sample_labels(labels, torch.Size([2, 3]))[0, :, 0].tolist() == [1, 5]
    assert sample_labels(labels, torch.Size([3, 1]))[0, :, 0].tolist() == [1, 3, 6]
    assert sample_labels(labels, torch.Size([8, 3])) is labels


@pytest.mark.parametrize(("reach", "width"), [(1, 2), (2, 4), (3, 6)])
def test_outlines_reach_as_far_on_both_sides(reach, width):
    labels = torch.zeros(1, 16, 16, dtype=torch.long)
    labels[:, :, 8:] = 2
    near = find_outlines(labels, reach=reach)
    assert near[0, 5].int().tolist() == [
        int(8 - width // 2 <= column < 8 + width // 2) for column in range(16)
    ]
    assert not find_outlines(torch.ones_like(labels), reach=reach).any()


def test_outlines_of_a_volume_run_along_every_axis():
    labels = torch.zeros(1, 6, 6, 6, dtype=torch.long)
    labels[0, 3:, 3:, 3:] = 1
    near = find_outlines(labels, reach=1)
    assert near[0, 3, 4, 4]
    assert near[0, 4, 3, 4]
    assert near[0, 4, 4, 3]
    assert not near[0, 5, 5, 5]


def test_a_mean_over_nothing_is_nothing():
    assert float(mean_over(torch.ones(2, 2), torch.zeros(2, 2, dtype=torch.bool))) == 0
    assert float(mean_over(torch.tensor([1.0, 5.0]), torch.tensor([False, True]))) == 5


def test_a_branch_that_draws_the_outline_is_punished_less():
    truth = torch.zeros(1, 8, 8, dtype=torch.long)
    truth[:, :, 4:] = 1
    right = torch.full((1, 1, 4, 4), -5.0)
    right[..., 1:3] = 5.0  # columns 3 and 4 are in cells 1 and 2
    wrong = torch.full((1, 1, 4, 4), -5.0)
    wrong[..., 0] = 5.0
    assert float(outline_loss(right, truth)) < 0.1
    assert float(outline_loss(wrong, truth)) > 1
