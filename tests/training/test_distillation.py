import dataclasses
import math

import pytest
import torch
from torch import nn

from bedside.errors import SpecError
from bedside.models import create
from bedside.spec import DistillSpec, TrainingSpec, named_spec
from bedside.training.distill import Distill
from bedside.training.distillation import (
    FeatureMatch,
    channel_divergence,
    correlation_loss,
    mean_logits,
    pixel_divergence,
)
from bedside.training.tasks import Supervised
from models_for_tests import make_spec


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def pixel(*probabilities):
    """Logits of one pixel with these probabilities."""
    return torch.tensor(probabilities).log().reshape(1, -1, 1, 1)


def test_divergence_in_a_pixel_is_derived_by_hand():
    student, teacher = pixel(0.5, 0.5), pixel(0.9, 0.1)
    expected = 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5)
    assert float(pixel_divergence(student, teacher, temperature=1.0)) == pytest.approx(expected)
    # At temperature 2, odds of 9 become odds of 3; the factor is 4.
    warm = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert float(pixel_divergence(student, teacher, temperature=2.0)) == pytest.approx(4 * warm)


def test_divergence_of_a_channel_is_one_of_places():
    # One channel over two pixels: the teacher is nine times as active in the first one.
    student = torch.zeros(1, 1, 1, 2)
    teacher = torch.tensor([[[[math.log(9.0), 0.0]]]])
    expected = 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5)
    assert float(channel_divergence(student, teacher, temperature=1.0)) == pytest.approx(expected)
    shifted = teacher + 5.0  # a channel's level is not where it is active
    assert float(channel_divergence(shifted, teacher, temperature=1.0)) == pytest.approx(
        0, abs=1e-6
    )


@pytest.mark.parametrize("sizes", [(4, 5), (3, 4, 5)])
def test_who_agrees_with_the_teacher_pays_nothing(sizes):
    logits = draw(2, 4, *sizes)
    assert float(pixel_divergence(logits, logits, temperature=2.0).abs().max()) < 1e-5
    assert float(channel_divergence(logits, logits, temperature=2.0)) < 1e-5
    assert float(correlation_loss(logits, logits, temperature=1.0)) < 1e-5


def test_correlation_asks_for_the_ranking_only():
    # Two pixels, two labels: swapping what the teacher says is as wrong as can be.
    teacher = torch.cat([pixel(0.9, 0.1), pixel(0.2, 0.8)], dim=3)
    less_sure = torch.cat([pixel(0.7, 0.3), pixel(0.35, 0.65)], dim=3)
    assert float(correlation_loss(less_sure, teacher, temperature=1.0)) < 1e-5
    assert float(correlation_loss(teacher.flip(1), teacher, temperature=1.0)) == pytest.approx(4)


def test_several_teachers_teach_the_mean_of_what_they_hold_likely():
    one, two = draw(2, 3, 4, 4), draw(2, 3, 4, 4, seed=1)
    mean = mean_logits([one, two]).softmax(dim=1)
    assert torch.allclose(mean, (one.softmax(dim=1) + two.softmax(dim=1)) / 2, atol=1e-6)
    assert mean_logits([one]) is one


SMALL = make_spec().model
LARGE = dataclasses.replace(
    SMALL, levels=tuple(dataclasses.replace(level, channels=40) for level in SMALL.levels)
)


def make_task(spec, *teachers, match=None):
    supervised = Supervised(TrainingSpec(), num_classes=3)
    return Distill(supervised, spec, teachers=teachers, match=match)


def make_batch():
    truths = torch.zeros(2, 32, 32, dtype=torch.long)
    truths[:, 8:20, 8:20] = 1
    return torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0)), truths


ALL = DistillSpec(
    "t", soft_weight=0.5, boundary_weight=0.25, channel_weight=3.0, correlation_weight=2.0
)


def test_each_part_is_weighed_and_left_out_at_weight_0():
    torch.manual_seed(0)
    student, teacher = create(SMALL).train(), create(LARGE)
    parts = {}
    for spec in (ALL, DistillSpec("t", soft_weight=0, channel_weight=1.0)):
        loss, found = make_task(spec, teacher)(student, *make_batch())
        names = ("soft", "soft_boundary", "channel", "correlation")
        weights = (spec.soft_weight, spec.boundary_weight, spec.channel_weight)
        weights = (*weights, spec.correlation_weight)
        assert set(found) == {"dice", "ce"} | {
            name for name, weight in zip(names, weights, strict=True) if weight
        }
        expected = found["dice"] + found["ce"]
        for name, weight in zip(names, weights, strict=True):
            expected = expected + weight * found.get(name, torch.zeros(()))
        assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
        parts |= found
    assert all(float(part.detach()) > 0 for part in parts.values())


def test_the_teacher_teaches_and_neither_learns_nor_is_saved():
    torch.manual_seed(0)
    student, teacher = create(SMALL).train(), create(LARGE).train()
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    task = make_task(ALL, teacher)
    loss, _ = task(student, *make_batch())
    loss.backward()
    assert not teacher.training
    assert all(weight.grad is None for weight in teacher.parameters())
    assert all((value == before[name]).all() for name, value in teacher.state_dict().items())
    assert all(weight.grad is not None for weight in student.parameters())
    assert not list(task.parameters())
    assert not task.state_dict()


def test_a_student_drawn_to_its_teacher_comes_to_agree_with_it():
    torch.manual_seed(0)
    student, teacher = create(SMALL).train(), create(LARGE)
    images, truths = make_batch()
    task = make_task(DistillSpec("t", soft_weight=1.0, correlation_weight=1.0), teacher)
    optimizer = torch.optim.AdamW(student.parameters(), lr=3e-3)
    found = []
    for _ in range(12):
        _, parts = task(student, images, truths)
        optimizer.zero_grad()
        (parts["soft"] + parts["correlation"]).backward()
        optimizer.step()
        found.append(float(parts["soft"].detach()))
    assert found[-1] < 0.5 * found[0]


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_features_are_compared_at_common_strides_through_adapters_that_learn(spatial_dims):
    torch.manual_seed(0)
    small, large = (
        named_spec("nano", spatial_dims=spatial_dims),
        named_spec("small", spatial_dims=spatial_dims),
    )
    match = FeatureMatch(small, large)
    assert match.levels == [(level, level) for level in range(len(small.levels))]
    student = [
        draw(1, level.channels, *[16 >> i] * spatial_dims) for i, level in enumerate(small.levels)
    ]
    teacher = [
        draw(1, level.channels, *[16 >> i] * spatial_dims) for i, level in enumerate(large.levels)
    ]
    for ours, theirs in match(student, teacher):
        assert ours.shape == theirs.shape
    other = dataclasses.replace(large, stem_stride=1, logit_stride=1, levels=large.levels[:2])
    with pytest.raises(SpecError, match="no level at a common stride"):
        FeatureMatch(small, other)


def test_matched_features_teach():
    torch.manual_seed(0)
    student, teacher = create(SMALL).train(), create(LARGE)
    spec = DistillSpec("t", soft_weight=0, channel_weight=1.0, channel_on="features")
    task = make_task(spec, teacher, match=FeatureMatch(SMALL, LARGE))
    loss, parts = task(student, *make_batch())
    loss.backward()
    assert set(parts) == {"dice", "ce", "channel"}
    assert len(list(task.parameters())) == 4
    assert all(weight.grad is not None for weight in task.parameters())
    assert set(task.state_dict()) == {
        f"match.adapters.{index}.{kind}" for index in range(2) for kind in ("weight", "bias")
    }


def test_a_teacher_at_another_stride_is_brought_to_the_students():
    torch.manual_seed(0)
    student = create(SMALL).train()
    teacher = create(dataclasses.replace(LARGE, logit_stride=4))
    loss, parts = make_task(ALL, teacher, nn.Conv2d(1, 3, 1))(student, *make_batch())
    loss.backward()
    assert all(bool(part.isfinite()) for part in parts.values())
