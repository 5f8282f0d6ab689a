"""Slicing weights by name: rows of producers of channels, columns of their readers.

A convolution with its norm is named by its path; it may be whole, a product of factors, or
another block's. All functions leave what they are given as it is.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch

from bedside.compression.input_statistics import Inputs, InputStatistics
from bedside.models import TrainedNetwork, find_structure
from bedside.models.structure import Group
from bedside.spec import ModelSpec

Weights = dict[str, torch.Tensor]
NORM = ("weight", "bias", "running_mean", "running_var")
"""Tensors of a batch norm, one number a channel each."""


def weight_that_makes(weights: Mapping[str, torch.Tensor], path: str) -> str | None:
    """Name the weight whose rows are the channels out; None if it is shared."""
    return _first_of(weights, path, ("0.weight", "0.widen.weight", "0.core.weight", "weight"))


def weight_that_reads(weights: Mapping[str, torch.Tensor], path: str) -> str | None:
    """Name the weight whose columns are the channels in; None if it is shared."""
    return _first_of(weights, path, ("0.weight", "0.narrow.weight", "0.core.weight", "weight"))


def _first_of(weights: Mapping[str, torch.Tensor], path: str, names: tuple[str, ...]) -> str | None:
    for name in names:
        # A shared convolution is not in the state, and "weight" alone is a head's.
        if f"{path}.{name}" in weights:
            return f"{path}.{name}"
    return None


def cut(
    network: TrainedNetwork,
    group: Group,
    kept: torch.Tensor,
    inputs: Inputs | None = None,
) -> Weights:
    """Keep some units of a group, and with them all weights that belong to them.

    Args:
        network: What to cut.
        group: What the units are.
        kept: Numbers of the units that stay, in the order that they are to have.
        inputs: From `measure_inputs`; with them, whatever reads the group compensates
            for what is removed, as well as a linear map can.

    Returns:
        The new state.
    """
    weights, result = network.weights, dict(network.weights)
    channels = group.channels(kept)
    for path in group.ins:
        name = weight_that_reads(weights, path)
        if name is not None and inputs is not None and path in inputs:
            norms = norms_behind(network.spec, path)
            _compensate(result, path, norms, kept=channels, inputs=inputs[path])
        elif name is not None:
            result[name] = weights[name][:, channels]
    for path in group.outs:
        rows = torch.cat([channels, _beyond(weights, group, path)])
        name = weight_that_makes(weights, path)
        if name is not None:
            result[name] = result[name][rows]
        _cut_norm(result, f"{path}.1", rows)
    for path in group.norms:
        _cut_norm(result, path, channels)
    return result


def _compensate(
    weights: Weights, path: str, norms: list[str], *, kept: torch.Tensor, inputs: InputStatistics
) -> None:
    """Let a convolution read some channels only, and estimate the others from them.

    The guess is the best linear one on the inputs that were measured; what it misses of
    their mean is added to the norm, or to the bias.
    """
    removed = torch.ones(len(inputs.mean), dtype=torch.bool)
    removed[kept] = False
    guess = inputs.guess(kept, removed)
    name = str(weight_that_reads(weights, path))
    reader = weights[name].double()
    whole = multiply_out(weights, path).double().flatten(2).sum(dim=2)
    added = torch.einsum("og...,gk->ok...", reader[:, removed], guess)
    weights[name] = (reader[:, kept] + added).to(weights[name])
    lost = whole[:, removed] @ (inputs.mean[removed] - guess @ inputs.mean[kept])
    if f"{path}.bias" in weights:
        weights[f"{path}.bias"] = weights[f"{path}.bias"] + lost.to(weights[f"{path}.bias"])
        return
    for norm in norms:
        mean = weights[f"{norm}.running_mean"]
        weights[f"{norm}.running_mean"] = mean - lost.to(mean)


def _beyond(weights: Mapping[str, torch.Tensor], group: Group, path: str) -> torch.Tensor:
    """Number the channels that a convolution makes beyond those of a group."""
    return torch.arange(group.units * group.width, len(weights[f"{path}.1.weight"]))


def _cut_norm(weights: Weights, path: str, rows: torch.Tensor) -> None:
    for tensor in NORM:
        weights[f"{path}.{tensor}"] = weights[f"{path}.{tensor}"][rows]


def multiply_out(weights: Mapping[str, torch.Tensor], path: str) -> torch.Tensor:
    """Return the weight of a convolution, (out, in, *taps), with its factors multiplied out."""
    for plain in (f"{path}.0.weight", f"{path}.weight"):
        if plain in weights:
            return weights[plain]
    factors = [weights.get(f"{path}.0.{part}.weight") for part in ("narrow", "core", "widen")]
    narrow, core, widen = factors
    if core is None:
        narrow, widen = (weights[f"{path}.0.{part}.weight"] for part in ("narrow", "widen"))
        product = widen.flatten(1) @ narrow.flatten(1)
        return product.reshape(*product.shape, *narrow.shape[2:])
    if narrow is not None:
        core = torch.einsum("or...,ri->oi...", core, narrow.flatten(1))
    if widen is not None:
        core = torch.einsum("or,ri...->oi...", widen.flatten(1), core)
    return core


def make_whole(
    spec: ModelSpec, weights: Mapping[str, torch.Tensor], path: str
) -> tuple[ModelSpec, Weights]:
    """Multiply a convolution's factors out, if it has any."""
    if path not in spec.ranks:
        return spec, dict(weights)
    result = {n: t for n, t in weights.items() if not n.startswith(f"{path}.0.")}
    result[f"{path}.0.weight"] = multiply_out(weights, path)
    ranks = {name: rank for name, rank in spec.ranks.items() if name != path}
    return replace(spec, ranks=ranks), result


def drop_full_ranks(
    spec: ModelSpec, weights: Mapping[str, torch.Tensor]
) -> tuple[ModelSpec, Weights]:
    """Multiply out factors that save nothing after channels were removed."""
    result = dict(weights)
    for path, ranks in spec.ranks.items():
        makes, reads = weight_that_makes(result, path), weight_that_reads(result, path)
        if makes is None or reads is None:
            continue
        full = (result[reads].shape[1], len(result[makes]))
        if len(ranks) == 1 and ranks[0] >= min(full):
            spec, result = make_whole(spec, result, path)
        elif len(ranks) == 2:
            spec, result = _drop_full_sides(spec, result, path, full)
    return spec, result


def _drop_full_sides(
    spec: ModelSpec, weights: Weights, path: str, full: tuple[int, int]
) -> tuple[ModelSpec, Weights]:
    """Multiply a factor of full rank into the core between channels in and out."""
    result, core = dict(weights), f"{path}.0.core.weight"
    narrow, widen = f"{path}.0.narrow.weight", f"{path}.0.widen.weight"
    rank_in, rank_out = spec.ranks[path]
    if narrow in result and rank_in >= full[0]:
        factor = result.pop(narrow).flatten(1)
        result[core] = torch.einsum("or...,ri->oi...", result[core], factor)
    if widen in result and rank_out >= full[1]:
        factor = result.pop(widen).flatten(1)
        result[core] = torch.einsum("or,ri...->oi...", factor, result[core])
    ranks = (min(rank_in, full[0]), min(rank_out, full[1]))
    if ranks == full:
        return make_whole(spec, result, path)
    return replace(spec, ranks={**spec.ranks, path: ranks}), result


def norms_behind(spec: ModelSpec, path: str) -> list[str]:
    """Norms behind a convolution: its own, and those of blocks that share it."""
    return [f"{user}.1" for user in (path, *find_structure(spec).shared_by(path))]
