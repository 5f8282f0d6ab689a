import pytest
import torch

from bedside.compression.sparsity import apply_masks, find_masks, keep_zeros
from bedside.errors import UsageError
from compressed_networks import make_batches, make_network, make_spec, task


def zeros(network, masks):
    kept = sum(int(mask.sum()) for mask in masks.values())
    return 1 - kept / sum(mask.numel() for mask in masks.values())


@pytest.mark.parametrize("spatial_dims", [2, 3])
@pytest.mark.parametrize("fraction", [0.0, 0.5, 0.9])
def test_the_smallest_weights_go(fraction, spatial_dims):
    network = make_network(make_spec("reparam", spatial_dims))
    masks = find_masks(network, fraction=fraction)
    sparse = apply_masks(network, masks)
    for name, mask in masks.items():
        assert float((~mask).float().mean()) == pytest.approx(fraction, abs=1 / mask.numel())
        weight = network.weights[name].abs()
        if fraction:
            assert weight[~mask].max() <= weight[mask].min()
        assert torch.equal(sparse.weights[name], network.weights[name] * mask)
    kernels = {name for name, tensor in network.weights.items() if tensor.ndim > 2}
    assert set(masks) == {name for name in kernels if "spatial" not in name}
    sparse.create()


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_two_of_every_four_channels_in_stay(spatial_dims):
    network = make_network(make_spec("window", spatial_dims))
    masks = find_masks(network, pattern=(2, 4))
    mask = masks["stem.1.0.weight"]
    groups = mask[:, :4].sum(dim=1)
    assert (groups == 2).all()
    assert mask[:, 4:].all()
    weight = network.weights["levels.1.0.expand.0.weight"].flatten(1).reshape(32, 4, 4)
    kept = masks["levels.1.0.expand.0.weight"].flatten(1).reshape(32, 4, 4)
    best = weight.abs().topk(2, dim=2).indices
    assert kept.gather(2, best).all()
    assert (kept.sum(dim=2) == 2).all()


def test_zeros_stay_zero_while_a_network_is_trained_and_averaged():
    network = make_network(make_spec())
    masks = find_masks(network, fraction=0.8)
    model = apply_masks(network, masks).create().train()
    handles = keep_zeros(model, masks)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
    for images, truths in make_batches(network.spec, count=3):
        optimizer.zero_grad()
        task(model, images, truths)[0].backward()
        optimizer.step()
    weights = dict(model.named_parameters())
    for name, mask in masks.items():
        assert not weights[name][~mask].any()
        assert not torch.equal(weights[name][mask], network.weights[name][mask]), name
    for handle in handles:
        handle.remove()
    task(model, images, truths)[0].backward()
    optimizer.step()
    assert weights["downs.0.0.weight"][~masks["downs.0.0.weight"]].any()


def test_masks_that_make_no_sense_are_refused():
    network = make_network(make_spec())
    with pytest.raises(UsageError, match="either fraction"):
        find_masks(network)
    with pytest.raises(UsageError, match=r"fraction is 1.0; expected at least 0 and below 1"):
        find_masks(network, fraction=1.0)
    with pytest.raises(UsageError, match="expected \\(kept, of\\)"):
        find_masks(network, pattern=(4, 4))
    masks = find_masks(network, fraction=0.5)
    with pytest.raises(UsageError, match="apply the masks first"):
        keep_zeros(network.create(), masks)
    with pytest.raises(UsageError, match="and the weight is not there"):
        apply_masks(network, {"nowhere": masks["head.weight"]})
    with pytest.raises(UsageError, match="find the masks on this network"):
        apply_masks(network, {"head.weight": masks["stem.1.0.weight"]})
