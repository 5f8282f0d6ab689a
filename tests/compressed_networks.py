"""Small networks with norms that have seen data, for tests of compression."""

import dataclasses

import torch

from bedside.models import TrainedNetwork, create
from bedside.spec import LevelSpec, ModelSpec

SIZES = {2: (24, 20), 3: (12, 16, 12)}
MECHANISMS = ("window", "overlap", "routed", "pooled", "linear", "dense")
BLOCKS = ("conv", "reparam", *MECHANISMS)


def make_spec(block="window", spatial_dims=2, *, depth=2, **changes):
    """A network of three levels, of which the second is of the block in question."""
    level = LevelSpec(
        block, channels=16, depth=depth, num_heads=4, head_dim=4, window=4, halo=2, region=4,
        top_k=2,
    )  # fmt: skip
    levels = (
        LevelSpec("conv", 8, 1, num_heads=2, head_dim=4, exchange_window=4),
        dataclasses.replace(level, **changes),
        LevelSpec("window", 12, 1, num_heads=2, head_dim=4, window=4),
    )
    return ModelSpec(
        "hybrid", 2, 3, levels, stem_channels=6, decoder_channels=8,
        spatial_dims=spatial_dims, stem_stride=1,
        logit_stride=1, deep_supervision=True, boundary=True,
    )  # fmt: skip


def make_network(spec, *, seed=0):
    """Random weights, norms with random scales and statistics of data."""
    torch.manual_seed(seed)
    model = create(spec).train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d | torch.nn.BatchNorm3d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.3)
    with torch.no_grad():
        for _ in range(3):
            model(make_images(spec, 2))
    return TrainedNetwork.of(model, spec)


def make_images(spec, count=1):
    return torch.rand(count, spec.in_channels, *SIZES[spec.spatial_dims])


def run(network, x):
    """All that a network gives in training and use, in float64, as one flat vector."""
    model = network.create().double()
    with torch.no_grad():
        outputs = model.supervise(x.double())
    parts = (outputs.logits, *outputs.auxiliary, outputs.boundary)
    return torch.cat([part.flatten() for part in parts])


def clear(network, group, units):
    """Set to zero all that some units of a group make, and all columns that read them."""
    from bedside.compression.slicing import weight_that_reads

    weights = {name: tensor.clone() for name, tensor in network.weights.items()}
    channels = group.channels(torch.as_tensor(units))
    for path in (*(f"{path}.1" for path in group.outs), *group.norms):
        for name in ("weight", "bias"):
            weights[f"{path}.{name}"][channels] = 0
    for path in group.ins:
        if name := weight_that_reads(weights, path):
            weights[name][:, channels] = 0
    return TrainedNetwork(network.spec, weights)


def task(model, images, truths):
    """A loss of everything that a network gives."""
    outputs = model.supervise(images)
    loss = torch.nn.functional.cross_entropy(outputs.logits, truths)
    return loss + sum(part.square().mean() for part in (*outputs.auxiliary, outputs.boundary)), {}


def make_batches(spec, count=2, size=3):
    generator = torch.Generator().manual_seed(1)
    shape = SIZES[spec.spatial_dims]
    return [
        (
            torch.rand(size, spec.in_channels, *shape, generator=generator),
            torch.randint(0, spec.num_classes, (size, *shape), generator=generator),
        )
        for _ in range(count)
    ]
