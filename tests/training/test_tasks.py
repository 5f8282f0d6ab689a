import dataclasses

import pytest
import torch
from torch import nn

from bedside.errors import SpecError
from bedside.models import create
from bedside.models.outputs import Outputs
from bedside.spec import TrainingSpec
from bedside.training.losses import outline_loss, overlap_losses
from bedside.training.tasks import Supervised, observe
from models_for_tests import make_spec

PLAIN = TrainingSpec()


def make_batch(size=16, classes=3):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, classes, size, size, generator=generator)
    truths = torch.zeros(2, size, size, dtype=torch.long)
    truths[:, 4:10, 4:10] = 1
    truths[:, 10:13, 4:10] = 2
    return logits, truths


def judge(spec, outputs, truths):
    loss, parts = Supervised(spec, num_classes=outputs.logits.shape[1]).judge(outputs, truths)
    return float(loss), {name: float(part) for name, part in parts.items()}


def only(logits):
    return Outputs(logits, auxiliary=(), boundary=None, features=())


def test_the_loss_is_the_weighted_sum_of_its_parts():
    logits, truths = make_batch()
    spec = TrainingSpec(dice_weight=0.5, ce_weight=2.0, boundary_weight=0.25)
    loss, parts = judge(spec, only(logits), truths)
    assert set(parts) == {"dice", "ce", "boundary"}
    assert loss == pytest.approx(
        0.5 * parts["dice"] + 2 * parts["ce"] + 0.25 * parts["boundary"], rel=1e-5
    )
    plain, parts = judge(PLAIN, only(logits), truths)
    assert set(parts) == {"dice", "ce"}
    assert plain == pytest.approx(parts["dice"] + parts["ce"], rel=1e-5)


def test_the_boundary_part_sees_mistakes_near_outlines_only():
    _, truths = make_batch()
    sure = 20.0 * nn.functional.one_hot(truths, 3).movedim(-1, 1).float()
    inside, at_edge = sure.clone(), sure.clone()
    inside[:, :, 7, 7] = torch.tensor([20.0, 0, 0])  # truth is 1, three pixels from any outline
    at_edge[:, :, 4, 7] = torch.tensor([20.0, 0, 0])
    spec = TrainingSpec(boundary_weight=1.0, boundary_px=2)
    assert judge(spec, only(inside), truths)[1]["boundary"] < 1e-3
    assert judge(spec, only(at_edge), truths)[1]["boundary"] > 0.1


def test_class_weights_are_those_of_torch():
    logits, truths = make_batch()
    weights = (0.2, 1.0, 3.0)
    found = judge(TrainingSpec(class_weights=weights), only(logits), truths)[1]["ce"]
    expected = nn.functional.cross_entropy(logits, truths, weight=torch.tensor(weights))
    assert found == pytest.approx(float(expected), rel=1e-5)
    with pytest.raises(SpecError, match="class_weights has 2 entries; expected 3"):
        judge(TrainingSpec(class_weights=(1.0, 2.0)), only(logits), truths)


def test_a_bias_of_labels_is_what_logits_may_be_larger_by():
    logits, truths = make_batch()
    bias = (0.0, 0.5, 2.0)
    plain, parts = judge(TrainingSpec(), only(logits), truths)
    larger = only(logits + torch.tensor(bias)[:, None, None])
    found, found_parts = judge(TrainingSpec(label_bias=bias), larger, truths)
    assert found == pytest.approx(float(plain), rel=1e-5)
    assert found_parts.keys() == parts.keys()
    with pytest.raises(SpecError, match="label_bias has 2 entries; expected 3"):
        judge(TrainingSpec(label_bias=(1.0, 2.0)), only(logits), truths)


def test_smoothing_is_that_of_torch():
    logits, truths = make_batch()
    found = judge(TrainingSpec(label_smoothing=0.1), only(logits), truths)[1]["ce"]
    expected = nn.functional.cross_entropy(logits, truths, label_smoothing=0.1)
    assert found == pytest.approx(float(expected), rel=1e-5)


def test_coarser_logits_weigh_half_as_much_each():
    logits, truths = make_batch()
    fine, coarse = torch.randn(2, 3, 8, 8), torch.randn(2, 3, 4, 4)
    outputs = dataclasses.replace(only(logits), auxiliary=(fine, coarse))
    parts = judge(TrainingSpec(deep_weight=1.0), outputs, truths)[1]
    losses = []
    for auxiliary, step in ((fine, 2), (coarse, 4)):
        labels = truths[:, step // 2 - 1 :: step, step // 2 - 1 :: step]
        dice, entropy = overlap_losses(auxiliary, labels)
        losses.append(float(dice + entropy.mean()))
    assert parts["deep"] == pytest.approx((losses[0] + 0.5 * losses[1]) / 1.5, rel=1e-5)
    assert "deep" not in judge(TrainingSpec(deep_weight=0.0), outputs, truths)[1]


def test_a_branch_for_outlines_is_trained_along():
    logits, truths = make_batch()
    drawn = torch.randn(2, 1, 8, 8)
    outputs = dataclasses.replace(only(logits), boundary=drawn)
    loss, parts = judge(TrainingSpec(outline_weight=0.3), outputs, truths)
    assert parts["outline"] == pytest.approx(float(outline_loss(drawn, truths)))
    assert loss == pytest.approx(judge(PLAIN, only(logits), truths)[0] + 0.3 * parts["outline"])


def test_every_weight_of_a_network_with_all_extras_learns():
    model_spec = dataclasses.replace(make_spec().model, deep_supervision=True, boundary=True)
    model = create(model_spec).train()
    _, truths = make_batch(32)
    loss, parts = Supervised(PLAIN, num_classes=3)(model, torch.rand(2, 1, 32, 32), truths)
    loss.backward()
    assert set(parts) == {"dice", "ce", "deep", "outline"}
    assert all(weight.grad is not None for weight in model.parameters())


def test_a_network_of_another_kind_is_asked_for_its_logits_alone():
    model = nn.Conv2d(1, 3, 1)
    outputs = observe(model, torch.rand(1, 1, 4, 4), supervise=True)
    assert outputs.logits.shape == (1, 3, 4, 4)
    assert outputs.boundary is None
    assert outputs.auxiliary == outputs.features == ()
