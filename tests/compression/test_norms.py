import pytest
import torch

from bedside.compression.norms import recalibrate_norms
from bedside.errors import UsageError
from bedside.models import TrainedNetwork
from compressed_networks import make_batches, make_network, make_spec


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_statistics_become_those_of_the_batches_and_weights_stay(spatial_dims):
    network = make_network(make_spec("reparam", spatial_dims))
    spoilt = dict(network.weights)
    for name, tensor in network.weights.items():
        if name.endswith(("running_mean", "running_var")):
            spoilt[name] = tensor * 3 + 1
    batches = make_batches(network.spec, count=3)
    mended = recalibrate_norms(TrainedNetwork(network.spec, spoilt), batches)
    for name, tensor in mended.weights.items():
        if name.endswith(("running_mean", "running_var")):
            assert not torch.allclose(tensor, spoilt[name])
        else:
            assert torch.equal(tensor, network.weights[name]), name
    convolution = network.create().stem[0][0]
    with torch.no_grad():
        resources = [
            convolution(images).transpose(0, 1).flatten(1).mean(dim=1) for images, _ in batches
        ]
    found = mended.weights["stem.0.1.running_mean"]
    assert torch.allclose(found, torch.stack(resources).mean(dim=0), atol=1e-6)
    again = recalibrate_norms(mended, batches)
    for name, tensor in again.weights.items():
        assert torch.allclose(tensor, mended.weights[name], atol=1e-5), name


def test_no_batches_are_refused():
    with pytest.raises(UsageError, match="no batches"):
        recalibrate_norms(make_network(make_spec()), [])
