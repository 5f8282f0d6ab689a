"""Importance of the units of a network for its task, measured on batches."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn

from bedside.compression.gates import GateGradients
from bedside.compression.groups import Group, list_groups
from bedside.compression.input_statistics import Inputs, measure_inputs
from bedside.compression.reconstruction import score_reconstruction
from bedside.compression.slicing import NORM, weight_that_makes, weight_that_reads
from bedside.errors import UsageError
from bedside.models import TrainedNetwork

Batch = tuple[torch.Tensor, torch.Tensor]
"""Images (B, C, *S) float32 and truths (B, *S), as training gives them."""
Task = Callable[[nn.Module, torch.Tensor, torch.Tensor], tuple[torch.Tensor, Any]]
"""From a network and a batch to the loss, and what it is made of."""
Method = Literal["reconstruction", "fisher", "taylor", "magnitude", "random"]


@dataclass(frozen=True)
class Importance:
    """Scores of all units of a network.

    Attributes:
        method: How they were measured.
        scores: By name of the group, (units,); a larger one matters more. Scores of one
            kind of group compare with each other.
        inputs: What each convolution was given on the same batches, to compensate for what
            pruning removes; None without batches.
    """

    method: str
    scores: Mapping[str, torch.Tensor]
    inputs: Inputs | None = field(default=None, repr=False)

    def of(self, group: Group) -> torch.Tensor:
        """Return the scores of one group.

        Raises:
            UsageError: If it was not measured, or had other units then.
        """
        scores = self.scores.get(group.name)
        if scores is None or len(scores) != group.units:
            seen = "none" if scores is None else str(len(scores))
            raise UsageError(
                f"{group.name} has {group.units} units, and {seen} of them have been measured. "
                "Measure the importance on the network as it is now."
            )
        return scores


def measure_importance(
    network: TrainedNetwork,
    batches: Iterable[Batch],
    task: Task,
    *,
    method: Method = "reconstruction",
    seed: int = 0,
) -> Importance:
    """Score every unit of every group by the effect of its removal.

    "reconstruction" asks which units the others can replace, and scores blocks
    like "fisher", which puts a gate of 1 before all that reads a unit, and averages the
    square of the gate's gradient over examples. "taylor" sums |weight * gradient| over all
    weights of a unit: the change of the loss to first order if each were removed.
    "magnitude" and "random" look at no data; they are there to compare with.

    The network stays in evaluation mode, so that examples do not see each other.

    Args:
        network: What to score.
        batches: A hundred examples are enough; may be none for "magnitude" and "random",
            and then pruning has no inputs to make up with.
        task: What the network was trained for.
        method: How to score.
        seed: Seed of "random".

    Raises:
        UsageError: If there are no batches, and the method needs some.

    Source:
        Molchanov et al., Importance Estimation for Neural Network Pruning, CVPR 2019;
        Liu et al., Group Fisher Pruning, ICML 2021; of "reconstruction" see there.
    """
    groups, batches = list_groups(network), list(batches)
    if method in ("magnitude", "random"):
        scores = _by_weights(network, groups) if method == "magnitude" else _draw(groups, seed)
        return Importance(method, scores, measure_inputs(network, batches) if batches else None)
    if not batches:
        raise UsageError("no batches; importance is measured on at least one.")
    inputs = measure_inputs(network, batches)
    if method == "taylor":
        return Importance(method, _taylor(network.create(), groups, batches, task), inputs)
    by_gates = groups if method == "fisher" else {n: g for n, g in groups.items() if g.blocks}
    scores = _fisher(network, by_gates, batches, task)
    for name, group in groups.items():
        if name not in scores:
            scores[name] = score_reconstruction(network.weights, group, inputs)
    return Importance(method, scores, inputs)


def _by_weights(network: TrainedNetwork, groups: Mapping[str, Group]) -> dict[str, torch.Tensor]:
    squares = {name: tensor.square() for name, tensor in network.weights.items()}
    return {name: _sum_up(group, squares).sqrt() for name, group in groups.items()}


def _draw(groups: Mapping[str, Group], seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {n: torch.rand(group.units, generator=generator) for n, group in groups.items()}


def _taylor(
    model: nn.Module,
    groups: Mapping[str, Group],
    batches: Sequence[Batch],
    task: Task,
) -> dict[str, torch.Tensor]:
    """Average |weight * gradient| over batches, and sum it up over the weights of units."""
    parameters = dict(model.named_parameters())
    products = {name: torch.zeros_like(weight) for name, weight in parameters.items()}
    for images, truths in batches:
        model.zero_grad()
        task(model, images, truths.long())[0].backward()  # type: ignore[no-untyped-call]
        for name, weight in parameters.items():
            if weight.grad is not None:
                products[name] += (weight.detach() * weight.grad).abs()
    with torch.no_grad():
        means = {name: product / len(batches) for name, product in products.items()}
        return {name: _sum_up(group, means) for name, group in groups.items()}


def _fisher(
    network: TrainedNetwork, groups: Mapping[str, Group], batches: Sequence[Batch], task: Task
) -> dict[str, torch.Tensor]:
    """Average the squared gradients of the units' gates over examples."""
    model = network.create().requires_grad_(requires_grad=False)
    totals = {name: torch.zeros(group.units) for name, group in groups.items()}
    with GateGradients(model, groups.values()) as gates:
        for images, truths in batches:
            # Weights need no gradient; the image's own starts the way back to all gates.
            loss = task(model, images.clone().requires_grad_(), truths.long())[0]
            loss.backward()  # type: ignore[no-untyped-call]
            # A mean over the batch made each example's gradient as much smaller.
            for name, gradients in gates.take().items():
                totals[name] += (gradients * len(images)).square().sum(dim=0)
    count = sum(len(images) for images, _ in batches)
    return {name: total / count for name, total in totals.items()}


def _sum_up(group: Group, values: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """Sum a number a weight over all weights of each unit.

    Args:
        group: What the units are.
        values: A tensor like each weight, by its name; running statistics do not count.

    Returns:
        (units,).
    """
    if group.blocks:
        return torch.stack([_sum_of(values, f"{block}.") for block in group.blocks])
    total = torch.zeros(group.units)
    size = group.units * group.width
    for path in (*(f"{path}.1" for path in group.outs), *group.norms):
        for tensor in NORM[:2]:
            total += _by_unit(values[f"{path}.{tensor}"][:size], group)
    for path in group.outs:
        if (name := weight_that_makes(values, path)) is not None:
            total += _by_unit(values[name][:size], group)
    for path in group.ins:
        if (name := weight_that_reads(values, path)) is not None:
            total += _by_unit(values[name].transpose(0, 1), group)
    return total


def _by_unit(rows: torch.Tensor, group: Group) -> torch.Tensor:
    return rows.reshape(group.units, -1).sum(dim=1)


def _sum_of(values: Mapping[str, torch.Tensor], prefix: str) -> torch.Tensor:
    parts: Sequence[torch.Tensor] = [
        value.sum()
        for name, value in values.items()
        if name.startswith(prefix) and not name.endswith(("running_mean", "running_var", "tracked"))
    ]
    return torch.stack(list(parts)).sum()
