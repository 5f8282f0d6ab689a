"""A spec and its weights build the same network again, or say that they do not fit."""

import pytest
import torch

from bedside.errors import SpecError
from bedside.models import TrainedNetwork, create, named_spec


def test_the_same_network_comes_back() -> None:
    spec = named_spec("nano", num_classes=3)
    model = create(spec).eval()
    x = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        assert torch.equal(TrainedNetwork.of(model, spec).create()(x), model(x))


def test_training_a_model_on_leaves_what_was_taken_from_it() -> None:
    spec = named_spec("nano")
    model = create(spec)
    network = TrainedNetwork.of(model, spec)
    before = network.weights["head.weight"].clone()
    with torch.no_grad():
        model.head.weight.add_(1.0)
    assert torch.equal(network.weights["head.weight"], before)


def test_weights_of_another_spec_are_refused() -> None:
    network = TrainedNetwork.of(create(named_spec("nano")), named_spec("tiny"))
    with pytest.raises(SpecError, match="do not fit"):
        network.create()
