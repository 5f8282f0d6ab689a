"""How much each unit of a network matters to its task, measured on real batches."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from bedside.compression.gates import GateGradients
from bedside.compression.groups import Group, list_groups
from bedside.compression.surgery import NORM, weight_that_makes, weight_that_reads
from bedside.errors import UsageError
from bedside.models import TrainedNetwork

Batches = Iterable[tuple[torch.Tensor, torch.Tensor]]
"""Images (B, C, *S) float32 and truths (B, *S), as training gives them."""
Task = Callable[[nn.Module, torch.Tensor, torch.Tensor], tuple[torch.Tensor, Any]]
"""From a network and a batch to the loss, and what it is made of."""
Method = Literal["taylor", "fisher", "magnitude", "random"]


@dataclass(frozen=True)
class Importance:
    """Scores of all units of a network.

    Attributes:
        method: How they were measured.
        scores: By name of the group, (units,); a larger one matters more. Scores of one
            kind of group compare with each other.
    """

    method: str
    scores: Mapping[str, torch.Tensor]

    def of(self, group: Group) -> torch.Tensor:
        """Give the scores of one group.

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
    batches: Batches,
    task: Task,
    *,
    method: Method = "taylor",
    seed: int = 0,
) -> Importance:
    """Score every unit of every group by what its loss would do to the task.

    "taylor" sums |weight * gradient| over all weights of a unit: the change of the loss to
    first order if each weight were taken away. "fisher" puts a gate of 1 before all that
    reads a unit, and averages the square of the gate's gradient over examples. "magnitude"
    and "random" look at no data; they are there to compare with.

    The network stays in evaluation mode, so that examples do not see each other.

    Args:
        network: What to score.
        batches: A few hundred examples are enough; not looked at by "magnitude", "random".
        task: What the network was trained for.
        method: How to score.
        seed: Seed of "random".

    Raises:
        UsageError: If there are no batches, and the method needs some.

    Source:
        Molchanov et al., Importance Estimation for Neural Network Pruning, CVPR 2019;
        Liu et al., Group Fisher Pruning, ICML 2021.
    """
    groups = list_groups(network)
    if method == "random":
        generator = torch.Generator().manual_seed(seed)
        scores = {n: torch.rand(group.units, generator=generator) for n, group in groups.items()}
        return Importance(method, scores)
    if method == "magnitude":
        squares = {name: tensor.square() for name, tensor in network.weights.items()}
        return Importance(method, {n: _sum_up(g, squares).sqrt() for n, g in groups.items()})
    model = network.create()
    if method == "fisher":
        return Importance(method, _fisher(model, network, groups, batches, task))
    return Importance(method, _taylor(model, groups, batches, task))


def _taylor(
    model: nn.Module, groups: Mapping[str, Group], batches: Batches, task: Task
) -> dict[str, torch.Tensor]:
    """Average |weight * gradient| over batches, and sum it up over the weights of units."""
    parameters = dict(model.named_parameters())
    products = {name: torch.zeros_like(weight) for name, weight in parameters.items()}
    count = 0
    for images, truths in batches:
        model.zero_grad()
        task(model, images, truths.long())[0].backward()  # type: ignore[no-untyped-call]
        count += 1
        for name, weight in parameters.items():
            if weight.grad is not None:
                products[name] += (weight.detach() * weight.grad).abs()
    _check_count(count)
    with torch.no_grad():
        means = {name: product / count for name, product in products.items()}
        return {name: _sum_up(group, means) for name, group in groups.items()}


def _fisher(
    model: nn.Module,
    network: TrainedNetwork,
    groups: Mapping[str, Group],
    batches: Batches,
    task: Task,
) -> dict[str, torch.Tensor]:
    """Average the squared gradients of the units' gates over examples."""
    model.requires_grad_(requires_grad=False)
    totals = {name: torch.zeros(group.units) for name, group in groups.items()}
    count = 0
    with GateGradients(model, network.spec, groups.values()) as gates:
        for images, truths in batches:
            # Weights need no gradient; the image's own starts the way back to all gates.
            loss = task(model, images.clone().requires_grad_(), truths.long())[0]
            loss.backward()  # type: ignore[no-untyped-call]
            # A mean over the batch made each example's gradient as much smaller.
            for name, gradients in gates.take().items():
                totals[name] += (gradients * len(images)).square().sum(dim=0)
            count += len(images)
    _check_count(count)
    return {name: total / count for name, total in totals.items()}


def _check_count(count: int) -> None:
    if not count:
        raise UsageError("no batches; importance is measured on at least one.")


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
