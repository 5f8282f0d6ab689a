"""Weights at zero: single ones, or two of every four. The shape of the network stays.

Runtimes compute with zeros as with any number, so that this saves bytes of the deflated file
and, but for hardware made for it, no time (`benchmarks/sparsity.md`).
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from bedside.errors import UsageError
from bedside.models import TrainedNetwork

Masks = dict[str, torch.Tensor]
Pattern = tuple[int, int]


def find_masks(
    network: TrainedNetwork,
    *,
    fraction: float | None = None,
    pattern: Pattern | None = None,
) -> Masks:
    """Choose which weights stay: the largest.

    Only weights that read several channels are considered; depthwise kernels, norms and
    biases are few and matter much.

    Args:
        network: What will be sparse.
        fraction: Share of each layer's weights to set to zero, in [0, 1).
        pattern: In place of it, (2, 4): of every 4 neighbours along the channels in, 2
            stay. Channels that are left over at the end stay whole.

    Returns:
        By name of the weight, a mask of its shape: True where it stays.

    Raises:
        UsageError: If not one of both is given, or it leaves nothing or makes no sense.

    Example:
        >>> from bedside.models import create, named_spec
        >>> spec = named_spec("nano")
        >>> masks = find_masks(TrainedNetwork.of(create(spec), spec), fraction=0.75)
        >>> round(float(masks["downs.0.0.weight"].float().mean()), 3)
        0.25
    """
    if (fraction is None) == (pattern is None):
        raise UsageError("give either fraction, the share of zeros, or pattern, such as (2, 4).")
    weights = {
        name: weight
        for name, weight in network.weights.items()
        if weight.ndim > 3 and weight.shape[1] > 1
    }
    if pattern is not None:
        _check_pattern(pattern)
        return {name: _keep_pattern(weight, pattern) for name, weight in weights.items()}
    if fraction is None or not 0 <= fraction < 1:
        raise UsageError(f"fraction is {fraction}; expected at least 0 and below 1.")
    return {name: _keep_largest(weight, fraction) for name, weight in weights.items()}


def apply_masks(network: TrainedNetwork, masks: Mapping[str, torch.Tensor]) -> TrainedNetwork:
    """Set all weights to zero that masks do not keep.

    Raises:
        UsageError: If a mask is that of no weight, or of another shape.
    """
    _check_masks(network.weights, masks)
    sparse = {name: network.weights[name] * mask for name, mask in masks.items()}
    return TrainedNetwork(network.spec, {**network.weights, **sparse})


def keep_zeros(model: nn.Module, masks: Mapping[str, torch.Tensor]) -> list[Any]:
    """Keep a model's weights at zero while it is trained, by gradients of zero.

    An optimizer that starts afresh never moves what has no gradient, AdamW's decay of
    weights included; nor do averages of the weights.

    Args:
        model: With the masks applied; trained in place from here on.
        masks: As `find_masks` gives them.

    Returns:
        Handles; `remove()` each to let all weights move again.

    Raises:
        UsageError: If a mask is that of no weight, of another shape, or a weight that it
            does not keep is not zero.

    Example:
        >>> layer = nn.Conv2d(2, 1, 1, bias=False)
        >>> mask = torch.tensor([True, False]).reshape(1, 2, 1, 1)
        >>> _ = layer.weight.data.mul_(mask)
        >>> handles = keep_zeros(layer, {"weight": mask})
        >>> layer(torch.ones(1, 2, 1, 1)).sum().backward()
        >>> layer.weight.grad.flatten().tolist()
        [1.0, 0.0]
    """
    parameters = dict(model.named_parameters())
    _check_masks(parameters, masks)
    for name, mask in masks.items():
        if bool((parameters[name].detach().cpu() * ~mask).count_nonzero()):
            raise UsageError(f"{name} is not zero where its mask is: apply the masks first.")
    return [_mask_gradient(parameters[name], mask) for name, mask in masks.items()]


def _mask_gradient(parameter: torch.Tensor, mask: torch.Tensor) -> Any:
    def mask_it(gradient: torch.Tensor) -> torch.Tensor:
        return gradient * mask.to(gradient.device)

    return parameter.register_hook(mask_it)  # type: ignore[no-untyped-call]


def _check_masks(weights: Mapping[str, torch.Tensor], masks: Mapping[str, torch.Tensor]) -> None:
    for name, mask in masks.items():
        if name not in weights or weights[name].shape != mask.shape:
            shape = tuple(weights[name].shape) if name in weights else "not there"
            raise UsageError(
                f"the mask of {name} has shape {tuple(mask.shape)}, and the weight is {shape}: "
                "find the masks on this network."
            )


def _check_pattern(pattern: Pattern) -> None:
    kept, of = pattern
    if not 0 < kept < of:
        raise UsageError(f"pattern is {pattern}; expected (kept, of) with 0 < kept < of.")


def _keep_largest(weight: torch.Tensor, fraction: float) -> torch.Tensor:
    """Keep all but a share of a tensor; ties are decided by place, so that the share is met."""
    order = weight.abs().flatten().argsort(stable=True)
    mask = torch.ones(weight.numel(), dtype=torch.bool)
    mask[order[: round(fraction * weight.numel())]] = False
    return mask.reshape(weight.shape)


def _keep_pattern(weight: torch.Tensor, pattern: Pattern) -> torch.Tensor:
    """Keep the largest of every few neighbours along the channels in."""
    kept, of = pattern
    whole = weight.shape[1] // of * of
    mask = torch.ones_like(weight, dtype=torch.bool)
    if not whole:
        return mask
    groups = weight[:, :whole].abs().transpose(0, 1).reshape(whole // of, of, -1)
    best = groups.argsort(dim=1, descending=True, stable=True)[:, :kept]
    chosen = torch.zeros(groups.shape, dtype=torch.bool).scatter_(1, best, value=True)
    rest = (weight.shape[0], *weight.shape[2:])
    mask[:, :whole] = chosen.reshape(whole, math.prod(rest)).reshape(whole, *rest).transpose(0, 1)
    return mask
