"""Batch norms of small batches that have the same statistics in training as in use."""

import pytest
import torch
from torch import nn

from bedside.training.renorm import set_renorm, use_renorm


def make_norm(spatial_dims: int) -> nn.Module:
    """A norm that has seen other images, in training."""
    torch.manual_seed(0)
    norm = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[spatial_dims](3)
    norm.running_mean.uniform_(-0.3, 0.3)
    norm.running_var.uniform_(0.7, 1.5)
    nn.init.uniform_(norm.weight, 0.5, 1.5)
    nn.init.uniform_(norm.bias, -1, 1)
    return nn.Sequential(norm).train()


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_once_turned_a_norm_gives_in_training_what_it_gives_in_use(spatial_dims):
    model = make_norm(spatial_dims)
    image = torch.randn(1, 3, *(6,) * spatial_dims)
    in_use = model.eval()(image)
    of_batch = model.train()(image)
    model = make_norm(spatial_dims)
    names = set(model.state_dict())
    use_renorm(model)
    set_renorm(model, progress=0.0)
    assert torch.allclose(model(image), of_batch, atol=1e-6)
    model.load_state_dict(make_norm(spatial_dims).state_dict())
    set_renorm(model, progress=1.0)
    assert torch.allclose(model(image), in_use, atol=1e-5)
    assert set(model.state_dict()) == names


def test_the_gradient_stays_blind_to_shift_and_scale_of_the_image():
    model = make_norm(3)
    use_renorm(model)
    set_renorm(model, progress=1.0)
    image = torch.rand(1, 3, 6, 6, 6, requires_grad=True)
    (model(image) * torch.rand(image.shape)).sum().backward()
    axes = (2, 3, 4)
    assert image.grad.abs().max() > 0.1
    assert image.grad.sum(axes).abs().max() < 1e-4
    assert (image.grad * image).sum(axes).abs().max() < 1e-2


def test_running_statistics_follow_those_of_the_batches():
    model = make_norm(3)
    use_renorm(model)
    set_renorm(model, progress=1.0)
    for _ in range(300):
        model(torch.randn(1, 3, 8, 8, 8) * 2 + 5)
    assert torch.allclose(model[0].running_mean, torch.full((3,), 5.0), atol=0.1)
    assert torch.allclose(model[0].running_var, torch.full((3,), 4.0), atol=0.3)
