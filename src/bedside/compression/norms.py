"""Statistics of batch norms, measured again after a network was changed."""

from collections.abc import Iterable

import torch
from torch import nn

from bedside.errors import UsageError
from bedside.models import TrainedNetwork


def recalibrate_norms(
    network: TrainedNetwork, batches: Iterable[tuple[torch.Tensor, torch.Tensor]]
) -> TrainedNetwork:
    """Measure the means and variances of all batch norms of a network again.

    Weights stay. Each statistic is the plain mean over the batches, so that their order is
    of no consequence; a few dozen batches of the training's size are enough.

    Args:
        network: After pruning, factoring or tying.
        batches: Images (B, C, *S) and truths, augmented as in training; truths are not
            used. More than one image a batch, because means over windows need several.

    Raises:
        UsageError: If there are no batches.

    Source:
        Sun et al., Hybrid 8-bit Floating Point Training and Inference, NeurIPS 2019, appendix;
        Li et al., EagleEye, ECCV 2020 (adaptive batch normalization).
    """
    model = network.create()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
            module.reset_running_stats()
            # Without momentum it averages all batches alike.
            module.momentum = None
            module.train()
    count = 0
    with torch.no_grad():
        for images, _ in batches:
            model(images)
            count += 1
    if not count:
        raise UsageError("no batches; the statistics of norms are measured on at least one.")
    measured = TrainedNetwork.of(model, network.spec)
    counters = {n: t for n, t in network.weights.items() if n.endswith("num_batches_tracked")}
    return TrainedNetwork(network.spec, {**measured.weights, **counters})
