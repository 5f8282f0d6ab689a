"""Scores tell units that matter from those that do not, and gates' gradients are what they say."""

import pytest
import torch

from bedside.compression.gates import GateGradients
from bedside.compression.groups import find_group, list_groups
from bedside.compression.importance import measure_importance
from bedside.compression.input_statistics import measure_inputs
from bedside.compression.reconstruction import score_reconstruction
from bedside.compression.slicing import multiply_out
from bedside.compression.spectra import scale_of_norm
from bedside.errors import UsageError
from bedside.models import TrainedNetwork
from compressed_networks import clear, make_batches, make_network, make_spec, task

METHODS = ("reconstruction", "taylor", "fisher", "magnitude", "random")


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("method", METHODS)
def test_every_unit_of_every_group_gets_a_score(method, spatial_dims):
    network = make_network(make_spec("reparam", spatial_dims))
    importance = measure_importance(network, make_batches(network.spec), task, method=method)
    for name, group in list_groups(network).items():
        scores = importance.of(group)
        assert scores.shape == (group.units,), name
        assert torch.isfinite(scores).all()
        # Behind a ReLU that is never on, a unit truly does not matter.
        assert (scores >= 0).all(), name
        assert scores.max() > 0, name


@pytest.mark.parametrize("method", METHODS[:-1])
@pytest.mark.parametrize("shared", ["none", "both"])
def test_units_that_do_nothing_matter_least(method, shared):
    whole = make_network(make_spec("window", shared=shared))
    for name in ("hidden.levels.1.0", "heads.levels.1.0", "channels.levels.1", "decoder"):
        group = find_group(whole, name)
        silent = torch.arange(0, group.units, 2)
        network = clear(whole, group, silent)
        importance = measure_importance(network, make_batches(whole.spec), task, method=method)
        scores = importance.of(group)
        if method == "magnitude":
            assert scores[silent].max() < scores[1::2].min(), name
        else:
            assert scores[silent].max() == 0, name
            assert scores[1::2].max() > 0, name


@pytest.mark.parametrize("name", ["hidden.levels.1.0", "heads.levels.1.0", "channels.levels.1"])
def test_reconstruction_scores_are_the_losses_of_the_readers_fitted_to_what_is_left(name):
    """The first unit to go, by brute force: fit every reader without each of them."""
    network = make_network(make_spec("window"))
    group = find_group(network, name)
    inputs = measure_inputs(network, make_batches(network.spec))
    losses = torch.zeros(group.units, dtype=torch.float64)
    for path in group.ins:
        whole = multiply_out(network.weights, path).double().flatten(2)
        whole = whole * scale_of_norm(network.weights, path)[:, None, None]
        covariance = inputs[path].covariance
        covariance = covariance + 1e-3 * covariance.diagonal().mean() * torch.eye(len(covariance))
        for unit in range(group.units):
            gone = group.channels(torch.tensor([unit]))
            kept = torch.tensor([c for c in range(len(covariance)) if c not in gone.tolist()])
            cross = covariance[kept][:, gone]
            missed = covariance[gone][:, gone] - cross.T @ torch.linalg.solve(
                covariance[kept][:, kept], cross
            )
            losses[unit] += torch.einsum("ogt,gh,oht->", whole[:, gone], missed, whole[:, gone])
    scores = score_reconstruction(network.weights, group, inputs)
    first = int(scores.argmin())
    assert first == int(losses.argmin())
    assert scores[first] == pytest.approx(float(losses.min()), rel=1e-5)


def test_a_gates_gradient_is_the_slope_of_the_loss_as_a_unit_is_turned_down():
    network = make_network(make_spec("window"))
    images, truths = make_batches(network.spec, count=1)[0]
    images = images.double()
    step = 1e-5
    for name in ("hidden.levels.1.0", "channels.levels.1", "decoder", "stem", "heads.levels.0.1"):
        group = find_group(network, name)
        model = network.create().double()
        with GateGradients(model, [group]) as gates:
            task(model, images.clone().requires_grad_(), truths)[0].backward()
            slope = gates.take()[name].sum(dim=0)[1]
        losses = []
        for gate in (1 - step, 1 + step):
            turned = network.create().double()
            with torch.no_grad():
                for path in group.ins:
                    convolution = turned.get_submodule(path)
                    convolution = getattr(convolution, "0", convolution)
                    channels = group.channels(torch.tensor([1]))
                    convolution.weight[:, channels] *= gate
                losses.append(task(turned, images, truths)[0])
        assert slope == pytest.approx(float(losses[1] - losses[0]) / (2 * step), rel=1e-4), name


def test_a_blocks_gate_is_the_slope_of_the_loss_as_its_update_is_turned_down():
    network = make_network(make_spec("window"))
    group = find_group(network, "blocks.levels.1")
    images, truths = make_batches(network.spec, count=1)[0]
    model = network.create()
    with GateGradients(model, [group]) as gates:
        task(model, images.clone().requires_grad_(), truths)[0].backward()
        slope = gates.take()[group.name].sum(dim=0)[1]
    step, losses = 1e-3, []
    for gate in (1 - step, 1 + step):
        weights = dict(network.weights)
        for update in ("attention.project_out", "project"):
            for tensor in ("weight", "bias"):
                name = f"levels.1.1.{update}.1.{tensor}"
                weights[name] = weights[name] * gate
        turned = TrainedNetwork(network.spec, weights).create().double()
        with torch.no_grad():
            losses.append(task(turned, images.double(), truths)[0])
    assert slope == pytest.approx(float(losses[1] - losses[0]) / (2 * step), rel=1e-3)


def test_measuring_needs_batches_and_changes_nothing():
    network = make_network(make_spec())
    before = {name: tensor.clone() for name, tensor in network.weights.items()}
    measure_importance(network, make_batches(network.spec), task)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.weights.items())
    for method in METHODS[:3]:
        with pytest.raises(UsageError, match="no batches"):
            measure_importance(network, [], task, method=method)
