"""Low rank: convolutions as products of smaller ones, fitted to their inputs.

A 1x1 convolution is cut by its singular values, one of more taps by Tucker-2 (its channels
in and out). What counts is the error behind the norm, on the inputs that there are: columns
are weighted by the square root of the input's covariance, rows by the norm's scale. A mean
that is lost is given back to the norm.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import torch

from bedside.compression.input_statistics import Inputs, InputStatistics, white
from bedside.compression.slicing import make_whole, multiply_out, norms_behind
from bedside.compression.spectra import (
    Candidate,
    Ranks,
    factorable_weights,
    read_spectra,
    scale_of_norm,
    weigh,
)
from bedside.layers.factored import check_ranks
from bedside.models import TrainedNetwork
from bedside.spec.model import check_paths

_ROUNDS = 3
"""Times that each side of a Tucker decomposition is fitted to the other; it settles in two."""


def factorize(
    network: TrainedNetwork, ranks: Mapping[str, Ranks], inputs: Inputs | None = None
) -> TrainedNetwork:
    """Replace convolutions by products of lower rank; norms stay, behind the product.

    Args:
        network: What to compress.
        ranks: By path of the convolution with its norm: one rank for 1x1, two (channels in
            and out) for more taps. What is factored already is factored anew.
        inputs: From `measure_inputs`; without, all inputs count alike.

    Raises:
        SpecError: If a path is that of no convolution, or its ranks are not below its size.

    Source:
        Yuan et al., ASVD, arXiv:2312.05821, and Wang et al., SVD-LLM, ICLR 2025 (whitening);
        Kim et al., ICLR 2016 (Tucker-2); the norm's part is ours.
    """
    check_paths("ranks", ranks, factorable_weights(network))
    spec, weights = network.spec, dict(network.weights)
    for path, rank in ranks.items():
        spec, weights = make_whole(spec, weights, path)
        whole = weights.pop(f"{path}.0.weight")
        check_ranks(whole.shape[1], whole.shape[0], whole.shape[-1], rank)
        statistics = (inputs or {}).get(path) or white(whole.shape[1])
        factors = _factor(whole.double(), rank, statistics, scale_of_norm(weights, path))
        weights.update({f"{path}.0.{name}.weight": t.to(whole) for name, t in factors.items()})
        lost = (whole.double() - multiply_out(weights, path).double()).flatten(2).sum(dim=2)
        for norm in norms_behind(spec, path):
            mean = weights[f"{norm}.running_mean"]
            weights[f"{norm}.running_mean"] = mean - (lost @ statistics.mean).to(mean)
        spec = replace(spec, ranks={**spec.ranks, path: tuple(rank)})
    return TrainedNetwork(spec, weights)


def list_candidates(
    network: TrainedNetwork,
    *,
    inputs: Inputs | None = None,
    keep_energy: float,
    round_to: int = 8,
    paths: Iterable[str] | None = None,
) -> list[Candidate]:
    """Convolutions that multiply less as a product, with ranks and cost, to be timed one by one.

    Fewer multiplications are not less time: two small convolutions move more memory than
    one. Only what is timed as faster is worth its error.

    Args:
        network: What would be factored.
        inputs: From `measure_inputs`; without, all inputs count alike.
        keep_energy: Share of the variance of each convolution's results to keep, in (0, 1].
        round_to: Ranks are rounded up to multiples.
        paths: Convolutions to look at; None for all.

    Raises:
        SpecError: If a path is that of no convolution.
    """
    spectra = read_spectra(network, inputs, paths)
    chosen = (spectrum.choose(keep_energy, round_to=round_to) for spectrum in spectra)
    return [candidate for candidate in chosen if candidate]


def _factor(
    whole: torch.Tensor, ranks: Ranks, statistics: InputStatistics, scale: torch.Tensor
) -> dict[str, torch.Tensor]:
    """Return the factors of a weight by name, as `FactoredConv` has them, in float64."""
    root, inverse = statistics.root()
    weighted = weigh(whole, root, scale)
    points = (1,) * (whole.ndim - 2)
    if whole[0, 0].numel() == 1:
        left, values, right = torch.linalg.svd(weighted.flatten(1), full_matrices=False)
        # Both factors get an equal part of the size: rounding and training like that.
        part = values[: ranks[0]].sqrt()
        narrow = part[:, None] * right[: ranks[0]] @ inverse
        widen = left[:, : ranks[0]] * part / scale[:, None]
        return {name: factor.reshape(*factor.shape, *points)
                for name, factor in (("narrow", narrow), ("widen", widen))}  # fmt: skip
    core, side_in, side_out = _tucker(weighted, ranks)
    factors = {}
    narrow, widen = side_in.T @ inverse, side_out / scale[:, None]
    if ranks[0] < whole.shape[1]:
        factors["narrow"] = narrow.reshape(*narrow.shape, *points)
    else:
        core = torch.einsum("or...,ri->oi...", core, narrow)
    if ranks[1] < whole.shape[0]:
        factors["widen"] = widen.reshape(*widen.shape, *points)
    else:
        core = torch.einsum("or,ri...->oi...", widen, core)
    return {**factors, "core": core}


def _tucker(
    weighted: torch.Tensor, ranks: Ranks
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Decompose (out, in, *taps) into a core and orthonormal (in, r_in) and (out, r_out)."""

    def best(tensor: torch.Tensor, rank: int) -> torch.Tensor:
        left: torch.Tensor = torch.linalg.svd(tensor.flatten(1), full_matrices=False)[0]
        return left[:, :rank]

    side_in = best(weighted.transpose(0, 1), ranks[0])
    for _ in range(_ROUNDS):
        side_out = best(torch.einsum("oi...,ir->or...", weighted, side_in), ranks[1])
        narrowed = torch.einsum("oi...,or->ri...", weighted, side_out)
        side_in = best(narrowed.transpose(0, 1), ranks[0])
    return torch.einsum("ri...,is->rs...", narrowed, side_in), side_in, side_out
