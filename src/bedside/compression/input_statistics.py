"""Mean and covariance of the inputs of convolutions, measured on images.

A weight matters as far as its input does; all that approximates weights asks here.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from bedside.errors import UsageError
from bedside.layers.conv import ConvNorm, SharedConv
from bedside.layers.factored import FactoredConv
from bedside.models import TrainedNetwork

# Least variance of a direction of the input, as a share of the largest.
_FLOOR = 1e-6
# Channels have at least this share of their mean variance of their own: a guess that
# needs more precision than that would not hold on other images.
_RIDGE = 1e-4


@dataclass(frozen=True)
class InputStatistics:
    """Moments of the input channels of a convolution, over all positions and images.

    Attributes:
        mean: (C,) float64.
        covariance: (C, C) float64.
    """

    mean: torch.Tensor
    covariance: torch.Tensor

    def root(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the square root of the covariance and its inverse, (C, C) both.

        Example:
            >>> covariance = torch.diag(torch.tensor([4.0, 9.0]))
            >>> root, inverse = InputStatistics(torch.zeros(2), covariance).root()
            >>> root.diagonal().tolist(), bool(torch.allclose(root @ inverse, torch.eye(2)))
            ([2.0, 3.0], True)
        """
        values, vectors = torch.linalg.eigh(self.covariance)
        values = values.clamp(min=float(values[-1]) * _FLOOR + 1e-30).sqrt()
        return vectors * values @ vectors.T, vectors / values @ vectors.T

    def guess(self, kept: torch.Tensor, removed: torch.Tensor) -> torch.Tensor:
        """Return the best linear guess of some channels from others: (removed, kept).

        Example:
            >>> covariance = torch.tensor([[4.0, 2.0], [2.0, 4.0]])
            >>> moments = InputStatistics(torch.zeros(2), covariance)
            >>> round(float(moments.guess(torch.tensor([0]), torch.tensor([1]))), 3)
            0.5
        """
        known = self.covariance[kept][:, kept]
        ridge = float(known.diagonal().mean()) * _RIDGE + 1e-30
        known = known + ridge * torch.eye(len(known), dtype=known.dtype)
        solved: torch.Tensor = torch.linalg.solve(known, self.covariance[kept][:, removed])
        return solved.T


Inputs = Mapping[str, InputStatistics]
"""Moments by path of a convolution with its norm."""


def white(channels: int) -> InputStatistics:
    """Moments of an unknown input: white."""
    return InputStatistics(
        torch.zeros(channels, dtype=torch.float64), torch.eye(channels, dtype=torch.float64)
    )


def measure_inputs(
    network: TrainedNetwork, batches: Iterable[tuple[torch.Tensor, torch.Tensor]]
) -> dict[str, InputStatistics]:
    """Measure the inputs of all convolutions that mix channels, heads included.

    Inputs of blocks that share a convolution count for its owner.

    Args:
        network: In evaluation mode.
        batches: Images (B, C, *S) and truths; truths are not used.

    Raises:
        UsageError: If there are no batches.
    """
    model = network.create()
    sums: dict[str, torch.Tensor] = {}
    for path, modules in _find_readers(model).items():
        for module in modules:
            module.register_forward_pre_hook(_add_to(sums, path))
    # Heads of training are not in `forward`.
    run = getattr(model, "supervise", model)
    with torch.no_grad():
        for images, _ in batches:
            run(images)
    if not sums:
        raise UsageError("no batches; the inputs of convolutions are measured on at least one.")
    return {path: _to_moments(total) for path, total in sums.items()}


def _find_readers(model: nn.Module) -> dict[str, list[nn.Module]]:
    """Convolutions that mix channels, by path, each with those that share it."""
    found: dict[str, list[nn.Module]] = {}
    paths = {id(module): path for path, module in model.named_modules()}
    for path, module in model.named_modules():
        inner = module[0] if isinstance(module, ConvNorm) else None
        if isinstance(inner, SharedConv):
            found.setdefault(paths[id(inner.owner)], []).append(module)
        elif isinstance(inner, FactoredConv) or (
            isinstance(inner, nn.Conv2d | nn.Conv3d) and inner.groups == 1
        ):
            found.setdefault(path, []).append(module)
        elif isinstance(module, nn.Conv2d | nn.Conv3d) and module.bias is not None:
            found[path] = [module]
    return found


def _add_to(sums: dict[str, torch.Tensor], path: str) -> Callable[[nn.Module, Any], None]:
    """Hook that sums the products of a module's channels."""

    def watch(module: nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        # In float64: what varies little about a large mean would be lost in the difference.
        x = args[0].detach().double().transpose(0, 1).flatten(1)
        # With a row of ones, one product gives the count and both moments.
        x = torch.cat([x, x.new_ones(1, x.shape[1])])
        sums[path] = sums.get(path, 0.0) + x @ x.T

    return watch


def _to_moments(total: torch.Tensor) -> InputStatistics:
    """Turn sums of products, with those of a row of ones last, into moments."""
    count = total[-1, -1]
    mean = total[:-1, -1] / count
    return InputStatistics(mean, total[:-1, :-1] / count - torch.outer(mean, mean))
