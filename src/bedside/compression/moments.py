"""What convolutions are given: mean and covariance of their channels, measured on real images.

A weight matters as far as its input does; all that approximates weights asks here.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

from bedside.errors import UsageError
from bedside.layers.conv import Borrowed, ConvNorm
from bedside.layers.factored import FactoredConv, list_factorable
from bedside.models import TrainedNetwork

# Directions in which the input varies less than this share of the largest count as this.
_FLOOR = 1e-6


@dataclass(frozen=True)
class Moments:
    """Of the channels that a convolution reads, over all positions and images.

    Attributes:
        mean: (C,) float64.
        covariance: (C, C) float64.
    """

    mean: torch.Tensor
    covariance: torch.Tensor

    def root(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Give the square root of the covariance and its inverse, (C, C) both.

        Example:
            >>> root, inverse = Moments(torch.zeros(2), torch.diag(torch.tensor([4.0, 9.0]))).root()
            >>> root.diagonal().tolist(), bool(torch.allclose(root @ inverse, torch.eye(2)))
            ([2.0, 3.0], True)
        """
        values, vectors = torch.linalg.eigh(self.covariance)
        values = values.clamp(min=float(values[-1]) * _FLOOR + 1e-30).sqrt()
        return vectors * values @ vectors.T, vectors / values @ vectors.T


Inputs = Mapping[str, Moments]
"""Moments by path of a convolution with its norm."""


def white(channels: int) -> Moments:
    """Give the moments of an input of which nothing is known."""
    return Moments(
        torch.zeros(channels, dtype=torch.float64), torch.eye(channels, dtype=torch.float64)
    )


def measure_inputs(
    network: TrainedNetwork, batches: Iterable[tuple[torch.Tensor, torch.Tensor]]
) -> dict[str, Moments]:
    """Measure what every convolution that could be factored reads.

    What blocks that borrow a convolution read counts for the one that lends it.

    Args:
        network: In evaluation mode.
        batches: Images (B, C, *S) and truths; truths are not looked at.

    Raises:
        UsageError: If there are no batches.
    """
    model = network.create()
    modules = dict(list_factorable(model))
    modules.update({path: m for path, m in model.named_modules()
                    if isinstance(m, ConvNorm) and isinstance(m[0], FactoredConv)})  # fmt: skip
    owners = {id(module): path for path, module in modules.items()}
    sums: dict[str, torch.Tensor] = {}

    def watch(module: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        convolution = module[0]  # type: ignore[index]
        owner = convolution.owner if isinstance(convolution, Borrowed) else module
        path = owners.get(id(owner))
        if path is not None:
            x = args[0].detach().transpose(0, 1).flatten(1)
            # With a row of ones, one product gives the count and both moments.
            x = torch.cat([x, x.new_ones(1, x.shape[1])])
            sums[path] = sums.get(path, 0.0) + (x @ x.T).double()

    for module in model.modules():
        if isinstance(module, ConvNorm):
            module.register_forward_pre_hook(watch)
    with torch.no_grad():
        for images, _ in batches:
            model(images)
    if not sums:
        raise UsageError("no batches; the inputs of convolutions are measured on at least one.")
    return {path: _to_moments(total) for path, total in sums.items()}


def _to_moments(total: torch.Tensor) -> Moments:
    """Turn sums of products, with those of a row of ones last, into moments."""
    count = total[-1, -1]
    mean = total[:-1, -1] / count
    return Moments(mean, total[:-1, :-1] / count - torch.outer(mean, mean))
