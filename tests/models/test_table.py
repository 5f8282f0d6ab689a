import dataclasses

import pytest
import torch

from bedside.errors import SpecError
from bedside.models import ARCHITECTURES, count_parameters, create
from bedside.spec import ModelSpec, read_recipe
from models_for_tests import make_spec

SPECS = {name: dataclasses.replace(make_spec().model, architecture=name) for name in ARCHITECTURES}


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("size", [(64, 64), (32, 96)])
@pytest.mark.parametrize("stride", [1, 2, 4])
def test_every_model_gives_logits_at_its_stride(name, size, stride):
    spec = dataclasses.replace(SPECS[name], logit_stride=stride)
    model = create(spec).eval()
    with torch.no_grad():
        logits = model(torch.rand(2, spec.in_channels, *size))
    assert logits.shape == (2, spec.num_classes, size[0] // stride, size[1] // stride)
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_weight_of_every_model_learns(name):
    torch.manual_seed(0)
    model = create(SPECS[name])
    model(torch.rand(2, 1, 64, 64)).square().mean().backward()
    still = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    assert not still


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_model_is_rebuilt_from_its_spec_by_a_strict_load(name):
    torch.manual_seed(0)
    model = create(SPECS[name]).eval()
    rebuilt = create(SPECS[name]).eval()
    rebuilt.load_state_dict(model.state_dict(), strict=True)
    x = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        assert torch.equal(model(x), rebuilt(x))


def test_the_shipped_recipe_stays_under_half_a_million_weights():
    model = create(read_recipe("recipes/camus.toml").deployment.model)
    assert count_parameters(model) <= 500_000


def test_an_unknown_architecture_names_the_known_ones():
    with pytest.raises(SpecError, match="hybrid"):
        create(ModelSpec("hybird", 1, 2, levels=()))
